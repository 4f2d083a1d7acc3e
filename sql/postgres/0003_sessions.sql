-- Conversations and answers that are asked for again, as in sql/sessions. Times are Unix milliseconds
-- of the hosts' clocks.
CREATE TABLE sessions (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id UUID NOT NULL UNIQUE,
    project TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    token TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- Before this it can't have expired. A tombstone: when it did.
    look_at BIGINT NOT NULL,
    ended BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX sessions_to_end ON sessions (look_at) WHERE NOT ended;
CREATE INDEX sessions_to_forget ON sessions (look_at) WHERE ended;

-- One row for each turn, which carries what the session has come to with it. That there is only one of
-- a session and number keeps hosts from storing two turns on top of the same one.
CREATE TABLE session_messages (
    session BIGINT NOT NULL REFERENCES sessions (number) ON DELETE CASCADE,
    turn INTEGER NOT NULL,
    request UUID NOT NULL,
    -- Of the session, this turn's with them.
    messages BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    stored_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- This turn's, a JSON array: as text, for what was said must come back byte by byte.
    body TEXT NOT NULL,
    PRIMARY KEY (session, turn)
);

-- Answers that requests with an Idempotency-Key get again: by a hash of the token, the endpoint and the
-- key; `content` is a hash of what was asked.
CREATE TABLE idempotent_answers (
    key BYTEA NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    content BYTEA NOT NULL CHECK (length(content) = 32),
    request UUID NOT NULL,
    stored_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    answer BYTEA NOT NULL
);
CREATE INDEX idempotent_answers_to_end ON idempotent_answers (expires_at, bytes);

-- What a host has in hand: a session with an open turn, a key whose first request is in flight. After a
-- crash of the server it is empty, and the tables above still let nothing in twice.
CREATE UNLOGGED TABLE keeper_leases (
    what BYTEA NOT NULL PRIMARY KEY,
    host TEXT NOT NULL,
    until TIMESTAMPTZ NOT NULL
);
