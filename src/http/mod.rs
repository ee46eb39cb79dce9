//! The HTTP server both programs run, and how a file of a tree becomes a response.
//!
//! [`server`] accepts connections within limits and drains them on shutdown. [`files`] answers for
//! a file with ranges and [`conditions`] ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110)), several
//! ranges at once as [`multipart`]; [`body`]
//! streams it in pieces of fixed size, so that memory does not grow with the size of a blob, and
//! [`sendfile`] has the kernel do that where nothing has to be encrypted or framed.

pub mod body;
pub mod conditions;
pub mod files;
pub mod multipart;
mod page_cache;
pub mod sendfile;
pub mod server;

pub use body::Body;
