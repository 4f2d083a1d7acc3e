-- One row for each turn of a conversation, which carries what the session has come to with it: a turn
-- is stored by appending, and nothing that is there is written again. Times are Unix milliseconds.
CREATE TABLE sessions_by_number (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    project TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    token TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- Before this it can't have expired. A tombstone: when it did.
    look_at INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0
) STRICT;

-- In the order in which they were stored, of all sessions: a turn goes to the end of the table, where a
-- page is written again at most, and none is split.
CREATE TABLE session_turns (
    place INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    request BLOB NOT NULL CHECK (length(request) = 16),
    -- Of the session, this turn's with them.
    messages INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- This turn's, a JSON array.
    body TEXT NOT NULL
) STRICT;

INSERT INTO sessions_by_number (id, project, endpoint, token, created_at, look_at, ended)
SELECT id, project, endpoint, token, created_at, expires_at, ended FROM sessions ORDER BY created_at, id;

-- What a session had is one turn, the number of its latest.
INSERT INTO session_turns (session, turn, request, messages, tokens, stored_at, expires_at, body)
SELECT by_number.number, old.turns - 1, old.last_request, old.messages, old.tokens,
       old.expires_at - old.ttl_ms, old.expires_at,
       '[' || coalesce((SELECT group_concat(message, ',') FROM (SELECT message FROM session_messages
               WHERE session = old.id ORDER BY position)), '') || ']'
FROM sessions old JOIN sessions_by_number by_number ON by_number.id = old.id WHERE old.ended = 0
ORDER BY by_number.number;

DROP TABLE session_messages;
DROP TABLE sessions;
ALTER TABLE sessions_by_number RENAME TO sessions;
ALTER TABLE session_turns RENAME TO session_messages;

-- For the sweep: what may have expired, and which tombstones are old.
CREATE INDEX sessions_to_end ON sessions (look_at) WHERE ended = 0;
CREATE INDEX sessions_to_forget ON sessions (look_at) WHERE ended = 1;

-- Where the turns of a session are. Many are put down at a time: those behind the place that stands
-- at session 0, which is none, are not here yet, and are few.
CREATE TABLE session_places (
    session INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (session, turn)
) STRICT, WITHOUT ROWID;
INSERT INTO session_places (session, turn, place) VALUES (0, 0, 0);

-- Answers that requests with an Idempotency-Key get again: by a hash of the token, the endpoint and the
-- key; `content` is a hash of what was asked.
CREATE TABLE idempotent_answers (
    key BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
    content BLOB NOT NULL CHECK (length(content) = 32),
    request BLOB NOT NULL CHECK (length(request) = 16),
    stored_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    answer BLOB NOT NULL
) STRICT;
CREATE INDEX idempotent_answers_to_end ON idempotent_answers (expires_at, bytes);
