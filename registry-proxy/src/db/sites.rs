//! Sites: organisations with one or several hosts.
