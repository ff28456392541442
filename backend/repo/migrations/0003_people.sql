-- Friends, activity of accounts, and what a list of logins shows.

-- One row a direction. Friends are two rows with status 1: the request and its mirror.
CREATE TABLE friendship_requests (
    id                INTEGER PRIMARY KEY,
    requester_id      INTEGER NOT NULL,
    target_id         INTEGER NOT NULL,
    status            INTEGER NOT NULL,             -- 0 pending, 1 accepted, 2 rejected
    requester_remarks TEXT    NOT NULL DEFAULT '',  -- the requester's name for the target
    message           TEXT    NOT NULL DEFAULT '',
    is_mirror         INTEGER NOT NULL DEFAULT 0,   -- 1: made by an acceptance, not by asking
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,             -- change time
    UNIQUE (requester_id, target_id)
) STRICT;
CREATE INDEX friends_asked ON friendship_requests (target_id, status);

ALTER TABLE users ADD COLUMN last_active_at INTEGER NOT NULL DEFAULT 0; -- written about once an hour
UPDATE users SET last_active_at = created_at;
CREATE INDEX guests_active ON users (last_active_at) WHERE is_guest = 1 AND status <> 2;
CREATE INDEX users_deleted ON users (id) WHERE status = 2;

ALTER TABLE refresh_families ADD COLUMN client_info  TEXT    NOT NULL DEFAULT '';
ALTER TABLE refresh_families ADD COLUMN created_at   INTEGER NOT NULL DEFAULT 0; -- Unix seconds
ALTER TABLE refresh_families ADD COLUMN refreshed_at INTEGER NOT NULL DEFAULT 0; -- Unix seconds, of its youngest token
