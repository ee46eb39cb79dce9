//! What a crawl of many mirrors takes, and what the next one takes. Nothing is measured yet.

fn main() {}
