//! Which mirrors a client is sent to, in which order, and why.
//!
//! Candidates are hosts that are active, carry the repository, take blobs of that size and are verified
//! for the blob. They come in five tiers, the first that fits: a netblock of the host contains the client
//! (longest prefix first); the client's autonomous system is the host's or a declared peer; same
//! country; same continent, where a content delivery network always is; the rest, only while fewer
//! than [`Policy::min_mirrors`] are listed. Private hosts appear in the first two tiers only. A client
//! that names countries gets the mirrors there as the third tier and those of their continents as the
//! fourth, wherever it is. What countries a host serves is asked last, of every tier, and of the country
//! the client is in. Of several entries of one server, the best is listed and no other.
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
mod servers;
mod source;
pub mod told;

#[cfg(test)]
mod laws;

pub use explain::{Explanation, Reason};
pub use network::Network;
pub use order::{Choice, Client, Policy, Tier, Wanted};
pub use source::Source;
