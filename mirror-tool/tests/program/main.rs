//! mirror-tool as a whole: its commands, called as a library and run as a program, against a registry on
//! loopback that fails on demand.

#![expect(
    clippy::unwrap_used,
    reason = "the whole binary is tests, helpers outside of #[test] among them"
)]

mod belongings;
mod bench;
mod command;
mod crash;
mod damage;
mod disk;
mod export;
mod fake_registry;
mod forward_proxy;
mod hostile_sync;
mod lists;
mod registries;
mod removal;
mod selection;
mod shape;
mod sync;
mod sync_crash;
mod transfers;
mod transport;
mod upkeep;
mod wire;
