//! Listings: what a mirror holds, as its rsync daemon says.
