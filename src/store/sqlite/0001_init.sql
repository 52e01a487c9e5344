-- Times: due, lease and alert times in milliseconds, all others in seconds since 1970.
-- What changes at every poll stands in narrow rows (issuer, span); what is large stands elsewhere.

CREATE TABLE issuer (
    id                INTEGER PRIMARY KEY,
    name              TEXT    NOT NULL UNIQUE,
    about             TEXT    NOT NULL,
    schedule          TEXT    NOT NULL,
    retired           INTEGER NOT NULL,
    due               INTEGER,            -- null: retired
    claimed_until     INTEGER,
    hastened          INTEGER,            -- a wish that came while it was claimed; the poll in hand does not know of it
    last_polled       INTEGER,
    last_seen         INTEGER,
    discovery_touched INTEGER,            -- laid over the ledger
    jwks_touched      INTEGER
) STRICT;
CREATE INDEX issuer_due ON issuer (due) WHERE due IS NOT NULL;

-- Packed JSON: what the last assessment came to.
CREATE TABLE ledger (
    issuer  INTEGER PRIMARY KEY REFERENCES issuer,
    content BLOB NOT NULL
) STRICT;

CREATE TABLE standing (
    issuer  INTEGER PRIMARY KEY REFERENCES issuer,
    content BLOB NOT NULL
) STRICT;

-- Bodies, each once. With a base, the content is the difference to it; depth is the length of that chain.
CREATE TABLE document (
    id       INTEGER PRIMARY KEY,
    sha256   BLOB    NOT NULL UNIQUE,     -- of the bytes as served
    redacted TEXT    NOT NULL,            -- JSON array of pointers whose value was cut out
    size     INTEGER NOT NULL,            -- of the content, unpacked
    base     INTEGER REFERENCES document,
    depth    INTEGER NOT NULL,
    content  BLOB    NOT NULL
) STRICT;

-- What of an attempt repeats (URL, status, headers, certificates, …), each once; packed JSON.
CREATE TABLE answer (
    id      INTEGER PRIMARY KEY,
    sha256  BLOB NOT NULL UNIQUE,
    content BLOB NOT NULL
) STRICT;

-- A run of equal observations. The moments are what each time differs, of the first one; JSON.
CREATE TABLE span (
    id                 INTEGER PRIMARY KEY,
    issuer             INTEGER NOT NULL REFERENCES issuer,
    first_at           INTEGER NOT NULL,
    last_at            INTEGER NOT NULL,
    polls              INTEGER NOT NULL,
    fingerprint        BLOB    NOT NULL,  -- Observation::answer
    discovery          INTEGER REFERENCES answer,
    discovery_moment   TEXT,
    discovery_document INTEGER REFERENCES document,
    jwks               INTEGER REFERENCES answer,
    jwks_moment        TEXT,
    jwks_document      INTEGER REFERENCES document
) STRICT;
CREATE INDEX span_issuer ON span (issuer, first_at);

-- The lifecycle events of one poll: packed JSON array of their lines.
CREATE TABLE event (
    id     INTEGER PRIMARY KEY,
    issuer INTEGER NOT NULL REFERENCES issuer,
    at     INTEGER NOT NULL,
    lines  BLOB    NOT NULL
) STRICT;
CREATE INDEX event_issuer ON event (issuer, at);

CREATE TABLE finding (
    issuer     INTEGER NOT NULL REFERENCES issuer,
    rule       TEXT    NOT NULL,
    subject    TEXT    NOT NULL,          -- Subject::identity: a thumbprint, "kid:…", or ""
    kid        TEXT,
    line       INTEGER,
    severity   TEXT    NOT NULL,
    certainty  TEXT    NOT NULL,
    document   TEXT    NOT NULL,
    pointer    TEXT    NOT NULL,
    message    TEXT    NOT NULL,
    cites      TEXT    NOT NULL,          -- JSON array
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    PRIMARY KEY (issuer, rule, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX finding_unresolved ON finding (issuer) WHERE state <> 'resolved';

-- The issuer is a name: an incident may be about something that is polled no more, or about the monitor.
CREATE TABLE incident (
    seq      INTEGER PRIMARY KEY,
    id       TEXT    NOT NULL UNIQUE,
    issuer   TEXT    NOT NULL,
    opened   INTEGER NOT NULL,
    resolved INTEGER,
    state    TEXT    NOT NULL,
    content  BLOB    NOT NULL             -- packed JSON
) STRICT;
CREATE INDEX incident_issuer ON incident (issuer, state);

-- The outbox. The order of seq is the order of telling.
CREATE TABLE alert (
    seq           INTEGER PRIMARY KEY,
    id            TEXT    NOT NULL UNIQUE,
    channel       TEXT    NOT NULL,
    recipient     TEXT,
    incident      TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    attempts      INTEGER NOT NULL,
    created       INTEGER NOT NULL,
    due           INTEGER NOT NULL,
    claimed_until INTEGER,
    last_error    TEXT,
    delivered     INTEGER,
    notice        BLOB    NOT NULL        -- packed JSON
) STRICT;
CREATE INDEX alert_pending ON alert (due) WHERE state = 'pending';
CREATE INDEX alert_queue ON alert (incident, channel, recipient, seq) WHERE state = 'pending';

-- First looks that wait for the one baseline message; JSON.
CREATE TABLE baseline (
    issuer  INTEGER PRIMARY KEY REFERENCES issuer,
    content BLOB NOT NULL
) STRICT;

-- What people decided; JSON. The issuer is a name: a key may be announced before the first poll.
CREATE TABLE act (
    seq     INTEGER PRIMARY KEY,
    issuer  TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    content TEXT    NOT NULL
) STRICT;
CREATE INDEX act_issuer ON act (issuer, at);

CREATE TABLE note (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
