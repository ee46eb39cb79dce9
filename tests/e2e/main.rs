//! Both programs together, against real software.
//!
//! [`network`] builds what the tests share: a real docker-registry filled with real Debian images,
//! exported once; and per test real mirrors filled by rsync, crawled, with a front end before them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod checkins;
mod clients;
mod configured;
mod contents;
mod crawling;
mod crawls;
mod endurance;
mod faults;
mod floods;
mod follower;
mod geography;
mod held_line;
mod hostile;
mod http;
mod layering;
mod lists;
mod metalinks;
mod mirrorlist;
mod mirrors;
mod network;
mod observed;
mod partial;
mod pulls;
mod quick_mirror;
mod ranges;
mod reload;
mod removal;
mod repairs;
mod retries;
mod selection;
mod served;
mod serving;
mod site_config;
mod static_v2;
mod streaming;
mod to_https;
mod trees;
mod upload;
mod verdicts;
mod victim;
mod wire;
