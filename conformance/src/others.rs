//! What the same sections ask of somebody else: listed so that nobody wonders where it is.

use crate::{Level, Other};

/// What the same sections ask of somebody else.
pub const OTHERS: [Other; 20] = [
    other(
        "Pulling manifests",
        Level::Should,
        "a client says in `Accept` what it takes",
        "client",
    ),
    other(
        "Pulling manifests",
        Level::Should,
        "a client ignores parameters of `Content-Type`",
        "client",
    ),
    other(
        "Pulling manifests",
        Level::Should,
        "a client rejects a manifest whose `mediaType` is not its `Content-Type`",
        "client",
    ),
    other(
        "Pulling manifests",
        Level::Must,
        "a client that uses `Docker-Content-Digest` compares it with the manifest",
        "client",
    ),
    other(
        "Pulling manifests",
        Level::Should,
        "a client compares the manifest with the digest it asked for",
        "client",
    ),
    other(
        "Pulling blobs",
        Level::Must,
        "a client that uses `Docker-Content-Digest` compares it with the body",
        "client",
    ),
    other(
        "Pulling blobs",
        Level::Should,
        "a client compares the body with the digest it asked for",
        "client",
    ),
    other(
        "Legacy Docker support",
        Level::Should,
        "a client does not depend on fields and codes of Docker",
        "client",
    ),
    other(
        "Listing tags",
        Level::Must,
        "`last` is a tag, not a number of one",
        "client",
    ),
    other(
        "Listing referrers",
        Level::Must,
        "several filters that were applied are listed with commas",
        "one filter",
    ),
    other(
        "Listing referrers",
        Level::Must,
        "a client that is answered 404 falls back to the tag of the older scheme",
        "client",
    ),
    other(
        "Listing referrers",
        Level::Should,
        "what is under that tag is the index that the API would give",
        "pushing client",
    ),
    other(
        "Listing referrers",
        Level::Should,
        "a client that finds no index there takes it that there are no referrers",
        "client",
    ),
    other(
        "Backwards compatibility",
        Level::Must,
        "a client works with registries of older versions",
        "client",
    ),
    other(
        "Backwards compatibility",
        Level::Must,
        "a client that pushes a subject sees whether the API is there, or keeps the tag",
        "pushing client",
    ),
    other(
        "Enabling the referrers API",
        Level::Must,
        "what is pushed from then on with a subject is included",
        "push",
    ),
    other(
        "Content management",
        Level::Must,
        "a deletion that succeeds answers 202, of what is not there 404",
        "management",
    ),
    other(
        "Content management",
        Level::Should,
        "a client that deletes takes the manifest off the list under the tag",
        "client",
    ),
    other(
        "Warnings",
        Level::Should,
        "a client reports warnings, each once",
        "client",
    ),
    other(
        "Warnings",
        Level::Must,
        "a client does nothing on account of a warning",
        "client",
    ),
];

const fn other(
    section: &'static str,
    level: Level,
    text: &'static str,
    whose: &'static str,
) -> Other {
    Other {
        section,
        level,
        text,
        whose,
    }
}
