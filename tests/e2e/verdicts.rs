//! Real web servers that are set up in ways no client bears.
