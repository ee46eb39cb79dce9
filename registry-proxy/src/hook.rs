//! Programs of the operator that are told something: run with it on their standard input, for a bounded time.
