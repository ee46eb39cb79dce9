//! The front end of a mirror network for container images.
//!
//! Imports flow one way: [`server`] → [`dispatch`] → [`v2`], [`metalink`], [`web`] → [`select`] → [`network`],
//! [`geo`]; what writes ([`crawler`], [`checkin`], [`mirror`]) goes through [`db`], and [`snapshot`] turns tree and
//! database into the one immutable value that requests read. [`cli`] and [`config`] are how an operator
//! says what is wanted, [`check`] whether it can be had, and [`reload`] that it has changed; [`log`] and
//! [`systemd`] tell how it goes, [`notify`] what became of a mirror; [`remembered`] is what requests leave behind
//! for those that follow, and [`relay`] hands on what a client cannot be sent away for; [`base_url`] and [`client_address`] decide whom to believe about a request,
//! [`authorities`] whom beside all others.

mod by_text;
mod file_mark;
mod hook;

pub mod authorities;
pub mod base_url;
pub mod check;
pub mod checkin;
pub mod cli;
pub mod client_address;
pub mod config;
pub mod crawler;
pub mod db;
pub mod dispatch;
pub mod geo;
pub mod log;
pub mod metalink;
pub mod mirror;
pub mod network;
pub mod notify;
pub mod observe;
pub mod presence;
pub mod relay;
pub mod reload;
pub mod remembered;
pub mod select;
pub mod server;
pub mod snapshot;
pub mod systemd;
pub mod v2;
pub mod web;
