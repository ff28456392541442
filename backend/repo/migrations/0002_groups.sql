-- Groups, the world room, hiding, blocks, and events in the outbox.

ALTER TABLE conversations ADD COLUMN name_key TEXT NOT NULL DEFAULT '';           -- lower case, what a search looks in
ALTER TABLE conversations ADD COLUMN dissolved_at INTEGER NOT NULL DEFAULT 0;     -- 0: not dissolved
ALTER TABLE conversations ADD COLUMN last_message_seq INTEGER NOT NULL DEFAULT 0; -- of last_message_id: the newest row a person wrote
ALTER TABLE conversations ADD COLUMN active_at INTEGER NOT NULL DEFAULT 0;        -- last activity: the order of lists
ALTER TABLE conversations ADD COLUMN history_closed INTEGER NOT NULL DEFAULT 0;   -- 1: members see what came after they joined
UPDATE conversations SET last_message_seq = last_seq, active_at = updated_at;

ALTER TABLE conversation_members ADD COLUMN hidden_seq INTEGER NOT NULL DEFAULT -1; -- hidden while no message is newer than this
-- Whoever is no plain member that may speak: few, also in the world room.
CREATE INDEX members_special ON conversation_members (conversation_key, user_id) WHERE role > 1 OR muted > 0;

-- What a user lost, for delta sync; kept 30 days. Kind 1: a conversation, by key; 2: a friend, by user id.
CREATE TABLE sync_tombstones (
    user_id    INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    object_id  INTEGER NOT NULL,
    removed_at INTEGER NOT NULL,                    -- change time
    dissolved  INTEGER NOT NULL DEFAULT 0,          -- 1: a member when the conversation ended, who is told so; kept
    PRIMARY KEY (user_id, kind, object_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_ending ON sync_tombstones (removed_at) WHERE dissolved = 0;
CREATE INDEX former_members ON sync_tombstones (object_id, user_id) WHERE dissolved = 1;

CREATE TABLE blocks (
    blocker_id INTEGER NOT NULL,
    blocked_id INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (blocker_id, blocked_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX blocked_by ON blocks (blocked_id, blocker_id);

ALTER TABLE outbox RENAME COLUMN ack TO entry;
ALTER TABLE outbox ADD COLUMN kind INTEGER NOT NULL DEFAULT 1; -- of entry: 1 gochat.bus.v1.Ack, 2 gochat.bus.v1.OutboxEvent
