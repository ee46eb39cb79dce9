//! Which blobs of a host are looked at this time.
