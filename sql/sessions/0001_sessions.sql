-- Conversations, by the session id's 16 bytes. Times are Unix milliseconds. A session that has ended
-- is a tombstone: it has no messages any more, but requests for it can still be told that it was.
CREATE TABLE sessions (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    project TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    token TEXT NOT NULL,
    ttl_ms INTEGER NOT NULL,
    turns INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    last_request BLOB NOT NULL CHECK (length(last_request) = 16),
    ended INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- For the sweep: what has expired, and which tombstones are old.
CREATE INDEX sessions_to_end ON sessions (expires_at) WHERE ended = 0;
CREATE INDEX sessions_to_forget ON sessions (expires_at) WHERE ended = 1;

-- A JSON object for each message; `position` counts a session's messages from 0, so that they lie
-- beside each other and in order.
CREATE TABLE session_messages (
    session BLOB NOT NULL,
    position INTEGER NOT NULL CHECK (position >= 0),
    message TEXT NOT NULL,
    PRIMARY KEY (session, position)
) STRICT, WITHOUT ROWID;
