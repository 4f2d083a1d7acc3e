-- One row for each request whose token was accepted.
--
-- Times are RFC 3339 text in UTC with milliseconds: people read this table with sqlite3, its date
-- functions take it as it is, and it sorts as time does. Ranges of time need no index of their own:
-- request_id is a UUIDv7, so it sorts by time as well.
CREATE TABLE gateway_logs (
    request_id TEXT NOT NULL PRIMARY KEY,
    created_at TEXT,
    admitted_at TEXT,
    project TEXT,
    endpoint TEXT,
    token TEXT,
    session_id TEXT,
    client_ip TEXT,
    provider TEXT,
    model TEXT,
    provider_model TEXT,
    credential TEXT,
    status TEXT,
    http_status INTEGER,
    error_message TEXT,
    routing_decision TEXT,
    attempts TEXT,
    streamed INTEGER,
    finish_reason TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cached_tokens INTEGER,
    cache_write_tokens INTEGER,
    reasoning_tokens INTEGER,
    total_tokens INTEGER,
    cost_basis TEXT,
    cost_nano_usd INTEGER,
    cost_usd REAL GENERATED ALWAYS AS (cost_nano_usd / 1e9) VIRTUAL,
    latency_ms INTEGER,
    upstream_ms INTEGER,
    first_token_ms INTEGER,
    gateway_us INTEGER,
    bytes_in INTEGER,
    bytes_out INTEGER,
    request_body TEXT,
    response_body TEXT,
    host TEXT,
    worker INTEGER
) STRICT;

-- How far each spool segment is in gateway_logs; changed in the same transaction as the rows.
CREATE TABLE gateway_spool (
    host TEXT NOT NULL,
    segment TEXT NOT NULL,
    committed INTEGER NOT NULL,
    PRIMARY KEY (host, segment)
) STRICT, WITHOUT ROWID;
