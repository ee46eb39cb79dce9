//! The HTTP server both programs run, and how a file of a tree becomes a response.
//!
//! [`server`] accepts connections within limits and drains them on shutdown; [`patience`] ends those
//! whose peer does nothing. [`files`] answers for
//! a file with ranges and conditions ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110)); [`body`]
//! streams it in pieces of fixed size, so that memory does not grow with the size of a blob, and
//! [`sendfile`] has the kernel do that where nothing has to be encrypted or framed.

pub mod body;
pub mod files;
mod page_cache;
pub mod patience;
pub mod sendfile;
pub mod server;

pub use body::Body;
