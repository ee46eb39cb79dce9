//! Notices: what became of a mirror, told to its people and to the operator.
