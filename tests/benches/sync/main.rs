//! Following a tree, beside rsync doing the same.

fn main() {}
