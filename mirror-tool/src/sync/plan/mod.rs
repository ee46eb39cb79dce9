//! What has to be done so that one tree becomes what the list of another says.

pub mod filter;

pub use filter::Filter;
