-- Whether there was more of a body than the row has; null where it has none.
ALTER TABLE gateway_logs ADD COLUMN request_body_cut INTEGER;
ALTER TABLE gateway_logs ADD COLUMN response_body_cut INTEGER;

-- Requests added up by hour, and what they were. Written in the same transaction as the rows of
-- gateway_logs, and kept when those are gone: month totals and dashboards read this table alone.
--
-- `month` (YYYY-MM, in the configuration's timezone) and `hour` (its beginning, UTC) are those the
-- request began in. What a row of gateway_logs lacks is '' here, for a null is equal to nothing.
-- Histograms: b00 counts values below 1, bNN those from 2^(NN-1) to below 2^NN, b23 all above, too.
CREATE TABLE gateway_usage_hourly (
    month TEXT NOT NULL,
    hour TEXT NOT NULL,
    project TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    token TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    status TEXT NOT NULL,
    routing_decision TEXT NOT NULL,
    streamed INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    cost_nano_usd INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    latency_ms INTEGER NOT NULL,
    gateway_us INTEGER NOT NULL,
    first_token_ms INTEGER NOT NULL,
    latency_ms_b00 INTEGER NOT NULL,
    latency_ms_b01 INTEGER NOT NULL,
    latency_ms_b02 INTEGER NOT NULL,
    latency_ms_b03 INTEGER NOT NULL,
    latency_ms_b04 INTEGER NOT NULL,
    latency_ms_b05 INTEGER NOT NULL,
    latency_ms_b06 INTEGER NOT NULL,
    latency_ms_b07 INTEGER NOT NULL,
    latency_ms_b08 INTEGER NOT NULL,
    latency_ms_b09 INTEGER NOT NULL,
    latency_ms_b10 INTEGER NOT NULL,
    latency_ms_b11 INTEGER NOT NULL,
    latency_ms_b12 INTEGER NOT NULL,
    latency_ms_b13 INTEGER NOT NULL,
    latency_ms_b14 INTEGER NOT NULL,
    latency_ms_b15 INTEGER NOT NULL,
    latency_ms_b16 INTEGER NOT NULL,
    latency_ms_b17 INTEGER NOT NULL,
    latency_ms_b18 INTEGER NOT NULL,
    latency_ms_b19 INTEGER NOT NULL,
    latency_ms_b20 INTEGER NOT NULL,
    latency_ms_b21 INTEGER NOT NULL,
    latency_ms_b22 INTEGER NOT NULL,
    latency_ms_b23 INTEGER NOT NULL,
    gateway_us_b00 INTEGER NOT NULL,
    gateway_us_b01 INTEGER NOT NULL,
    gateway_us_b02 INTEGER NOT NULL,
    gateway_us_b03 INTEGER NOT NULL,
    gateway_us_b04 INTEGER NOT NULL,
    gateway_us_b05 INTEGER NOT NULL,
    gateway_us_b06 INTEGER NOT NULL,
    gateway_us_b07 INTEGER NOT NULL,
    gateway_us_b08 INTEGER NOT NULL,
    gateway_us_b09 INTEGER NOT NULL,
    gateway_us_b10 INTEGER NOT NULL,
    gateway_us_b11 INTEGER NOT NULL,
    gateway_us_b12 INTEGER NOT NULL,
    gateway_us_b13 INTEGER NOT NULL,
    gateway_us_b14 INTEGER NOT NULL,
    gateway_us_b15 INTEGER NOT NULL,
    gateway_us_b16 INTEGER NOT NULL,
    gateway_us_b17 INTEGER NOT NULL,
    gateway_us_b18 INTEGER NOT NULL,
    gateway_us_b19 INTEGER NOT NULL,
    gateway_us_b20 INTEGER NOT NULL,
    gateway_us_b21 INTEGER NOT NULL,
    gateway_us_b22 INTEGER NOT NULL,
    gateway_us_b23 INTEGER NOT NULL,
    first_token_ms_b00 INTEGER NOT NULL,
    first_token_ms_b01 INTEGER NOT NULL,
    first_token_ms_b02 INTEGER NOT NULL,
    first_token_ms_b03 INTEGER NOT NULL,
    first_token_ms_b04 INTEGER NOT NULL,
    first_token_ms_b05 INTEGER NOT NULL,
    first_token_ms_b06 INTEGER NOT NULL,
    first_token_ms_b07 INTEGER NOT NULL,
    first_token_ms_b08 INTEGER NOT NULL,
    first_token_ms_b09 INTEGER NOT NULL,
    first_token_ms_b10 INTEGER NOT NULL,
    first_token_ms_b11 INTEGER NOT NULL,
    first_token_ms_b12 INTEGER NOT NULL,
    first_token_ms_b13 INTEGER NOT NULL,
    first_token_ms_b14 INTEGER NOT NULL,
    first_token_ms_b15 INTEGER NOT NULL,
    first_token_ms_b16 INTEGER NOT NULL,
    first_token_ms_b17 INTEGER NOT NULL,
    first_token_ms_b18 INTEGER NOT NULL,
    first_token_ms_b19 INTEGER NOT NULL,
    first_token_ms_b20 INTEGER NOT NULL,
    first_token_ms_b21 INTEGER NOT NULL,
    first_token_ms_b22 INTEGER NOT NULL,
    first_token_ms_b23 INTEGER NOT NULL,
    PRIMARY KEY (month, hour, project, endpoint, token, provider, model, status, routing_decision,
                 streamed)
) STRICT, WITHOUT ROWID;

CREATE INDEX gateway_usage_hourly_by_hour ON gateway_usage_hourly (hour);

-- Requests that failed before their token was accepted: how many a minute, by what was answered and
-- where they came from (/24 of IPv4, /64 of IPv6, 'unix'; 'other' when there were too many).
CREATE TABLE gateway_refused (
    minute TEXT NOT NULL,
    code TEXT NOT NULL,
    network TEXT NOT NULL,
    host TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (minute, code, network, host)
) STRICT, WITHOUT ROWID;

-- For `promptgate logs` and dashboards: the newest rows of one endpoint, token, … at once. Those of
-- a status that is not ok, or of a routing decision, are few, so that other rows don't pay for it.
CREATE INDEX gateway_logs_by_endpoint ON gateway_logs (endpoint, request_id);
CREATE INDEX gateway_logs_by_token ON gateway_logs (token, request_id);
CREATE INDEX gateway_logs_by_status ON gateway_logs (status, request_id) WHERE status <> 'ok';
CREATE INDEX gateway_logs_by_decision ON gateway_logs (routing_decision, request_id)
    WHERE routing_decision IS NOT NULL;
