//! Repositories that could not be crawled at a host while the rest of it could.
