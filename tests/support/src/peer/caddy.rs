//! Caddy, as a volunteer runs it.
