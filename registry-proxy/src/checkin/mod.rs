//! Check-ins: what mirrors say of themselves after a sync.
//!
//! There are two ways in: a report of `mirror-tool` ([`json`]), and the call of MirrorManager's `report_mirror`
//! ([`xmlrpc`], [`report_mirror`]). Who it is says a [`Token`]. What a public mirror says is a reason to look, and
//! never proof; what a private one says is all there is to know of it ([`presence`]).
//!
//! Whoever may write here is known before anything is read of what he sends, or else little is read and unpacked of
//! it, for few at a time.

mod answer;
mod desk;
pub mod json;
mod limit;
pub mod presence;
pub mod report_mirror;
mod request;
mod token;
pub mod xmlrpc;

pub use answer::Refusal;
pub use desk::{Desk, router};
pub use token::{NoToken, Token};
