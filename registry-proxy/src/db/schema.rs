//! The tables, and how an older database becomes one of today.
//!
//! `PRAGMA user_version` counts the migrations applied. A migration is never changed once released; a
//! new one is added after it.

/// Marks a file as ours (`PRAGMA application_id`): the bytes `OCIm`.
pub(super) const APPLICATION_ID: i64 = 0x4f43_496d;

/// Every migration, in order; the first makes an empty database ours.
pub(super) const MIGRATIONS: [&str; 4] = [FIRST, SECOND, THIRD, FOURTH];

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

/// Sites with accounts, switches for several people, and what the crawler remembers from one crawl to
/// the next.
const SECOND: &str = "
ALTER TABLE site ADD COLUMN url TEXT;
ALTER TABLE site ADD COLUMN disabled TEXT;               -- by an administrator: why
ALTER TABLE site ADD COLUMN disabled_by_site TEXT;       -- by its own people: why
CREATE TABLE account (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL UNIQUE,
    email       TEXT,
    created_at  TEXT NOT NULL
) STRICT;
CREATE TABLE site_account (
    site     INTEGER NOT NULL REFERENCES site (id) ON DELETE CASCADE,
    account  INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    PRIMARY KEY (site, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX site_account_by_account ON site_account (account);
CREATE INDEX host_by_site ON host (site);

ALTER TABLE host ADD COLUMN kind TEXT NOT NULL DEFAULT 'server' CHECK (kind IN ('server', 'cdn'));
ALTER TABLE host ADD COLUMN max_blob_size INTEGER CHECK (max_blob_size >= 1);
ALTER TABLE host ADD COLUMN disabled_by_site TEXT;       -- `disabled` is the administrator's
ALTER TABLE host ADD COLUMN quarantined_at TEXT;         -- of the first damage; NULL when not in quarantine
UPDATE host SET quarantined_at = crawled_at WHERE quarantine IS NOT NULL;
ALTER TABLE host ADD COLUMN clean_samples INTEGER NOT NULL DEFAULT 0;  -- right in a row since damage was last seen
ALTER TABLE host ADD COLUMN finished_at TEXT;            -- of the last crawl that went through (crawled_at: of any)
ALTER TABLE host ADD COLUMN state_digest TEXT;           -- of the mirror's own state.json when it was last seen
ALTER TABLE host ADD COLUMN tree_serial INTEGER;         -- and the serial in it
ALTER TABLE host ADD COLUMN claimed_until TEXT;          -- a crawl is under way, in this process or another
ALTER TABLE repository ADD COLUMN excluded INTEGER NOT NULL DEFAULT 0 CHECK (excluded IN (0, 1));
ALTER TABLE presence ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;   -- grows over the whole table with each change of a row
ALTER TABLE evidence ADD COLUMN expected TEXT NOT NULL DEFAULT '';
ALTER TABLE evidence ADD COLUMN identity TEXT NOT NULL DEFAULT 'crawler';

CREATE TABLE crawl (                                     -- the last 200 of each host
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    host      INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    began_at  TEXT NOT NULL,
    ended_at  TEXT NOT NULL,
    failure   TEXT,
    requests  INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    verified  INTEGER NOT NULL,
    present   INTEGER NOT NULL,                          -- there, and none of their bytes ever read
    missing   INTEGER NOT NULL,
    damaged   INTEGER NOT NULL,
    unknown   INTEGER NOT NULL,
    sampled   INTEGER NOT NULL,                          -- blobs of which bytes were read
    undetected REAL NOT NULL                             -- ln of the chance that 1 % damaged blobs would not have been caught; 0: nothing was read
) STRICT;
CREATE INDEX crawl_by_host ON crawl (host, id);

CREATE TABLE repository_health (                         -- a row only where something is amiss
    host           INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    repository     TEXT NOT NULL,
    failed_crawls  INTEGER NOT NULL,
    failure        TEXT,
    carried        INTEGER NOT NULL,
    verified       INTEGER NOT NULL,
    missing        INTEGER NOT NULL,
    damaged        INTEGER NOT NULL,
    unknown        INTEGER NOT NULL,
    checked_at     TEXT NOT NULL,
    PRIMARY KEY (host, repository)
) STRICT, WITHOUT ROWID;

CREATE TABLE probe (
    host    INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    name    TEXT NOT NULL,                               -- tls, ipv4, ipv6, range, encoding
    result  TEXT NOT NULL CHECK (result IN ('passed', 'failed', 'absent', 'unknown')),
    detail  TEXT NOT NULL,
    at      TEXT NOT NULL,
    PRIMARY KEY (host, name)
) STRICT, WITHOUT ROWID;
";

/// Check-ins: what a mirror itself says after a sync.
const THIRD: &str = "
ALTER TABLE host ADD COLUMN hinted_at TEXT;              -- a check-in says that there is something new; taken back by the crawl that began after it
ALTER TABLE host ADD COLUMN checked_in_at TEXT;          -- the last check-in that gave presence; a private host that has one is not crawled
ALTER TABLE host ADD COLUMN listed BLOB;                 -- what the catalog held at the last check-in over XML-RPC

CREATE TABLE token (
    host        INTEGER PRIMARY KEY REFERENCES host (id) ON DELETE CASCADE,
    key         TEXT NOT NULL UNIQUE,                    -- the public half, by which the row is found
    hash        BLOB NOT NULL CHECK (length(hash) = 32), -- sha-256 of the whole token: 256 random bits need no slow hash
    created_at  TEXT NOT NULL
) STRICT;

CREATE TABLE check_in (                                  -- the last 50 of each host
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    host          INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    at            TEXT NOT NULL,
    way           TEXT NOT NULL CHECK (way IN ('report', 'xml-rpc')),
    serial        INTEGER,
    state_digest  TEXT,
    repositories  INTEGER,                               -- how many; NULL: all
    blobs         INTEGER NOT NULL,                      -- taken as present
    damaged       INTEGER                                -- told after a verification; NULL: none was made
) STRICT;
CREATE INDEX check_in_by_host ON check_in (host, id);
";

/// Check-ins: which report is the same as the last one, and what was named by category.
const FOURTH: &str = "
ALTER TABLE check_in ADD COLUMN carried TEXT;            -- a digest of what it says that it carries and of the grounds on which that counted; NULL: not told, or before there was this
ALTER TABLE host DROP COLUMN listed;                     -- of no category, so that nothing could be found to be gone

CREATE TABLE category (                                  -- of a check-in over XML-RPC
    host      INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    name      TEXT NOT NULL,
    blobs     BLOB NOT NULL,                             -- what the catalog held of its repositories when it was named
    listed_at TEXT NOT NULL,                             -- when that was: at the first call after a sync
    named_at  TEXT NOT NULL,                             -- the last time
    PRIMARY KEY (host, name)
) STRICT, WITHOUT ROWID;
";
