//! mirror-tool as a whole: its commands, called as a library and run as a program, against a registry on
//! loopback that fails on demand.

#![expect(
    clippy::unwrap_used,
    reason = "the whole binary is tests, helpers outside of #[test] among them"
)]

mod bench;
mod command;
mod crash;
mod damage;
mod disk;
mod export;
mod fake_registry;
mod forward_proxy;
mod lists;
mod registries;
mod removal;
mod selection;
mod shape;
mod transfers;
mod upkeep;
mod wire;
