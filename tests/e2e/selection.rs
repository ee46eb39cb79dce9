//! Where clients are sent, and whether all that speaks of it says the same.
