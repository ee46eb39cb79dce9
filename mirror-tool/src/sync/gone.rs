//! What is gone over there and kept here for a while, for those who are reading it.
