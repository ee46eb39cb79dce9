//! The tables, and how an older database becomes one of today.
//!
//! `PRAGMA user_version` counts the migrations applied. A migration is never changed once released; a
//! new one is added after it.

/// Marks a file as ours (`PRAGMA application_id`): the bytes `OCIm`.
pub(super) const APPLICATION_ID: i64 = 0x4f43_496d;

/// Every migration, in order; the first makes an empty database ours.
pub(super) const MIGRATIONS: [&str; 1] = [FIRST];

/// Bitmaps are roaring bitmaps (portable serialization) over `blob.id`.
const FIRST: &str = "
CREATE TABLE site (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    name    TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE host (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    site             INTEGER NOT NULL REFERENCES site (id) ON DELETE CASCADE,
    name             TEXT NOT NULL UNIQUE,
    country          TEXT,
    latitude         REAL,
    longitude        REAL,
    bandwidth        INTEGER NOT NULL CHECK (bandwidth >= 1),
    private          INTEGER NOT NULL CHECK (private IN (0, 1)),
    disabled         TEXT,
    failed_crawls    INTEGER NOT NULL DEFAULT 0,
    failure          TEXT,
    quarantine       TEXT,
    crawled_at       TEXT,
    CHECK ((latitude IS NULL) = (longitude IS NULL))
) STRICT;

CREATE TABLE url (
    host      INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    url       TEXT NOT NULL,
    PRIMARY KEY (host, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE netblock (
    host   INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    cidr   TEXT NOT NULL,
    PRIMARY KEY (host, cidr)
) STRICT, WITHOUT ROWID;

-- peer = 1: not its own, but well connected.
CREATE TABLE asn (
    host   INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    asn    INTEGER NOT NULL,
    peer   INTEGER NOT NULL CHECK (peer IN (0, 1)),
    PRIMARY KEY (host, asn)
) STRICT, WITHOUT ROWID;

-- allowed = 1: one of the only countries it serves; 0: one it does not serve.
CREATE TABLE served_country (
    host     INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    country  TEXT NOT NULL,
    allowed  INTEGER NOT NULL CHECK (allowed IN (0, 1)),
    PRIMARY KEY (host, country)
) STRICT, WITHOUT ROWID;

CREATE TABLE repository (
    host      INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    glob      TEXT NOT NULL,
    PRIMARY KEY (host, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE blob (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    digest  TEXT NOT NULL UNIQUE,
    size    INTEGER NOT NULL
) STRICT;

CREATE TABLE presence (
    host      INTEGER PRIMARY KEY REFERENCES host (id) ON DELETE CASCADE,
    verified  BLOB NOT NULL,
    missing   BLOB NOT NULL,
    damaged   BLOB NOT NULL
) STRICT;

-- When a blob's bytes were last read whole from a host: one row per host and day, so that a blob's
-- age is known to the day without a row per blob.
CREATE TABLE reading (
    host   INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    day    TEXT NOT NULL,
    blobs  BLOB NOT NULL,
    PRIMARY KEY (host, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE evidence (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    host      INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    digest    TEXT NOT NULL,
    url       TEXT NOT NULL,
    found     TEXT NOT NULL,
    seen_at   TEXT NOT NULL
) STRICT;

CREATE INDEX evidence_by_host ON evidence (host, seen_at);
";
