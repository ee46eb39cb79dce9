//! Which mirrors a client is sent to, in which order, and why.
//!
//! Candidates are hosts that are active, carry the repository and are verified for the blob. They
//! come in five tiers, the first that fits: a netblock of the host contains the client (longest prefix
//! first); the client's autonomous system is the host's or a declared peer; same country; same
//! continent; the rest, only while fewer than [`Policy::min_mirrors`] are listed. Private hosts appear
//! in the first two tiers only. What countries a host serves is asked last, of every tier.
//!
//! Inside a tier, load follows bandwidth with no shared state, by weighted rendezvous hashing
//! ([`rank`]): one client keeps its mirror for all blobs of a pull, and a host that leaves moves only
//! the clients it had.
//!
//! This module is pure: values in, values out.

mod distance;
mod explain;
mod netblocks;
pub mod network;
mod order;
pub mod rank;
mod source;

#[cfg(test)]
mod laws;

pub use explain::{Explanation, Reason, Taken};
pub use network::Network;
pub use order::{Choice, Client, Policy, Tier, Wanted};
pub use source::Source;
