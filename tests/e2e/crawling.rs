//! Crawls of real mirrors: listings by rsync, and who is told of what.
