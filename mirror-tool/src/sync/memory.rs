//! What a mirror remembers from one run to the next.
