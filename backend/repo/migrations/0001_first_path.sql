-- The embedded schema. Keys are integers in time order; text stands in an index only where a query of today looks it up
-- (pipeline.md E2, performance.md "What the store costs"). Times are Unix milliseconds unless the name says otherwise.
-- Claims of client_msg_ids live in tables named claims_<period>, made when their period begins (B1).

CREATE TABLE users (
    id            INTEGER PRIMARY KEY,
    username      TEXT    NOT NULL,
    name_key      TEXT    NOT NULL UNIQUE,          -- lower case
    password_hash TEXT    NOT NULL,                 -- empty: no login by password
    avatar_url    TEXT    NOT NULL,
    is_guest      INTEGER NOT NULL,
    status        INTEGER NOT NULL DEFAULT 0,       -- 0 normal, 1 disabled, 2 deleted
    token_version INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE conversations (
    key                INTEGER PRIMARY KEY,
    id                 TEXT    NOT NULL UNIQUE,
    type               INTEGER NOT NULL,            -- 1 single, 2 group, 3 world
    name               TEXT    NOT NULL,
    avatar_url         TEXT    NOT NULL,
    description        TEXT    NOT NULL,
    owner_id           INTEGER NOT NULL,            -- 0: none
    member_count       INTEGER NOT NULL,
    settings           TEXT    NOT NULL,            -- JSON or empty
    last_message_id    INTEGER NOT NULL DEFAULT 0,
    last_seq           INTEGER NOT NULL DEFAULT 0,  -- highest stored
    stored_through_seq INTEGER NOT NULL DEFAULT 0,  -- everything at or below is stored or void for ever (D1)
    parked             INTEGER NOT NULL DEFAULT 0,  -- 1: stored_through_seq has stopped
    info_version       INTEGER NOT NULL DEFAULT 1,
    membership_version INTEGER NOT NULL DEFAULT 1,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL             -- change time, for delta sync (D4)
) STRICT;

CREATE TABLE conversation_members (
    user_id          INTEGER NOT NULL,
    conversation_key INTEGER NOT NULL,
    role             INTEGER NOT NULL,              -- 1 member, 2 admin, 3 owner
    muted            INTEGER NOT NULL DEFAULT 0,
    muted_until      INTEGER NOT NULL DEFAULT 0,    -- Unix seconds, 0: no end
    join_seq         INTEGER NOT NULL DEFAULT 0,    -- read pointer of one who has not read yet
    joined_at        INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    PRIMARY KEY (user_id, conversation_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_of ON conversation_members (conversation_key, user_id);

CREATE TABLE messages (
    id               INTEGER PRIMARY KEY,
    conversation_key INTEGER NOT NULL,
    seq              INTEGER NOT NULL,
    sender_id        INTEGER NOT NULL,
    type             INTEGER NOT NULL,
    content          TEXT    NOT NULL,
    extra            TEXT    NOT NULL,
    client_msg_id    BLOB    NOT NULL,              -- compared as bytes (B1)
    content_hash     BLOB    NOT NULL,              -- 16 bytes, never recomputed (B1)
    created_at       INTEGER NOT NULL,
    deleted          INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX messages_at ON messages (conversation_key, seq);

CREATE TABLE claim_periods (
    period INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE read_pointers (
    user_id          INTEGER NOT NULL,
    conversation_key INTEGER NOT NULL,
    last_read_seq    INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    PRIMARY KEY (user_id, conversation_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE conversation_sequences (
    conversation_key INTEGER PRIMARY KEY,
    reserved_until   INTEGER NOT NULL               -- no number above it was ever handed out (C1)
) STRICT;

CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY,
    epoch     INTEGER NOT NULL                      -- of the upstream partition (A2)
) STRICT;

CREATE TABLE log_positions (
    partition   INTEGER PRIMARY KEY,
    next_offset INTEGER NOT NULL,                   -- of the persist partition (E1)
    epoch_seen  INTEGER NOT NULL                    -- highest epoch met in that log (A2)
) STRICT;

CREATE TABLE parked_records (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    partition       INTEGER NOT NULL,
    log_offset      INTEGER NOT NULL,
    conversation_id TEXT    NOT NULL,
    message_id      INTEGER NOT NULL,               -- 0: unknown
    reason          TEXT    NOT NULL,
    message         BLOB    NOT NULL,               -- an encoded gochat.bus.v1.PersistMessage
    parked_at       INTEGER NOT NULL
) STRICT;

CREATE TABLE outbox (
    id  INTEGER PRIMARY KEY AUTOINCREMENT,
    ack BLOB NOT NULL                               -- an encoded gochat.bus.v1.Ack
) STRICT;

CREATE TABLE refresh_families (
    id         TEXT    PRIMARY KEY,
    user_id    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,                    -- Unix seconds, of its youngest token
    revoked    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX families_of ON refresh_families (user_id);
CREATE INDEX families_expiring ON refresh_families (expires_at);

CREATE TABLE refresh_tokens (
    token_hash  TEXT    PRIMARY KEY,
    family_id   TEXT    NOT NULL,
    user_id     INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,                   -- Unix seconds
    used_at     INTEGER NOT NULL DEFAULT 0,         -- Unix seconds, 0: not used
    client_info TEXT    NOT NULL,
    replay      BLOB    NOT NULL                    -- sealed successor pair, handed out again within the grace
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_of ON refresh_tokens (family_id);
CREATE INDEX tokens_expiring ON refresh_tokens (expires_at);

CREATE TABLE revocations (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    token_hash  TEXT    UNIQUE,                     -- of one access token, or null
    user_id     INTEGER NOT NULL DEFAULT 0,
    min_version INTEGER NOT NULL DEFAULT 0,
    expires_at  INTEGER NOT NULL                    -- Unix seconds
) STRICT;
CREATE INDEX revocations_expiring ON revocations (expires_at);
