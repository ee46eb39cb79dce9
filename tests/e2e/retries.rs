//! Real clients that come back after a mirror has failed them.
