//! Crawls one after the other: what is asked again, when, and how fast.
