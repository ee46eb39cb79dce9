//! What a mirror network consists of: hosts, and what each of them is and wants.
//!
//! A [`Host`] is one mirror under one name; those of one organisation are a [`Site`]. Everything here is
//! plain values; which host a client gets is decided in [`select`](crate::select), what a host holds is
//! found out by the [`crawler`](crate::crawler) and kept in [`db`](crate::db).

pub mod account;
pub mod address;
pub mod bandwidth;
pub mod base_url;
pub mod entry;
pub mod host;
pub mod import;
pub mod kind;
pub mod name;
pub mod new_host;
pub mod reason;
pub mod site;
pub mod standing;
pub mod switch;

pub use account::Account;
pub use bandwidth::Bandwidth;
pub use base_url::BaseUrl;
pub use entry::Unacceptable;
pub use host::{Host, Visibility};
pub use import::Import;
pub use kind::Kind;
pub use name::{AccountId, AccountName, HostId, HostName, SiteId, SiteName};
pub use new_host::NewHost;
pub use oci_mirror::repo_glob::{self as glob, RepoGlob};
pub use reason::Reason;
pub use site::{NewSite, Site};
pub use standing::{Health, Inactive};
pub use switch::{By, Switch};
