//! mirror-tool: makes, checks and lists trees of container images that any static server can mirror.
//!
//! [`cli`] is the command line; each command is a module that can be called without it and never
//! ends the process: [`export`] copies images from registries and layouts into a tree, [`verify`]
//! looks for damage and repairs it, [`prune`] removes what nothing needs any more, [`list`] says what a
//! tree holds, [`sync`] follows another tree, [`report`] tells the front end so, [`site_config`] writes what
//! servers need, [`serve`] hands it out for trying things out, [`manual`] makes manual pages and
//! completions.
//! [`exit`] is how a command's result becomes the number a script sees.

pub mod cli;
pub mod exit;
pub mod export;
pub mod list;
pub mod manual;
pub mod prune;
pub mod report;
pub mod serve;
pub mod site_config;
pub mod sync;
pub mod verify;

mod say;
