-- Whether there was more of a body than the row has; null where it has none.
ALTER TABLE gateway_logs ADD COLUMN request_body_cut boolean;
ALTER TABLE gateway_logs ADD COLUMN response_body_cut boolean;

-- Requests added up by hour, and what they were. Written in the same transaction as the rows of
-- gateway_logs, and kept when those are gone: month totals and dashboards read this table alone.
--
-- `month` (YYYY-MM, in the configuration's timezone) and `hour` (its beginning) are those the
-- request began in. What a row of gateway_logs lacks is '' here, for a null is equal to nothing.
-- Histograms: b00 counts values below 1, bNN those from 2^(NN-1) to below 2^NN, b23 all above, too.
CREATE TABLE gateway_usage_hourly (
    month text NOT NULL,
    hour timestamptz NOT NULL,
    project text NOT NULL,
    endpoint text NOT NULL,
    token text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    status text NOT NULL,
    routing_decision text NOT NULL,
    streamed boolean NOT NULL,
    requests bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    total_tokens bigint NOT NULL,
    cost_nano_usd bigint NOT NULL,
    bytes_in bigint NOT NULL,
    bytes_out bigint NOT NULL,
    latency_ms bigint NOT NULL,
    gateway_us bigint NOT NULL,
    first_token_ms bigint NOT NULL,
    latency_ms_b00 bigint NOT NULL,
    latency_ms_b01 bigint NOT NULL,
    latency_ms_b02 bigint NOT NULL,
    latency_ms_b03 bigint NOT NULL,
    latency_ms_b04 bigint NOT NULL,
    latency_ms_b05 bigint NOT NULL,
    latency_ms_b06 bigint NOT NULL,
    latency_ms_b07 bigint NOT NULL,
    latency_ms_b08 bigint NOT NULL,
    latency_ms_b09 bigint NOT NULL,
    latency_ms_b10 bigint NOT NULL,
    latency_ms_b11 bigint NOT NULL,
    latency_ms_b12 bigint NOT NULL,
    latency_ms_b13 bigint NOT NULL,
    latency_ms_b14 bigint NOT NULL,
    latency_ms_b15 bigint NOT NULL,
    latency_ms_b16 bigint NOT NULL,
    latency_ms_b17 bigint NOT NULL,
    latency_ms_b18 bigint NOT NULL,
    latency_ms_b19 bigint NOT NULL,
    latency_ms_b20 bigint NOT NULL,
    latency_ms_b21 bigint NOT NULL,
    latency_ms_b22 bigint NOT NULL,
    latency_ms_b23 bigint NOT NULL,
    gateway_us_b00 bigint NOT NULL,
    gateway_us_b01 bigint NOT NULL,
    gateway_us_b02 bigint NOT NULL,
    gateway_us_b03 bigint NOT NULL,
    gateway_us_b04 bigint NOT NULL,
    gateway_us_b05 bigint NOT NULL,
    gateway_us_b06 bigint NOT NULL,
    gateway_us_b07 bigint NOT NULL,
    gateway_us_b08 bigint NOT NULL,
    gateway_us_b09 bigint NOT NULL,
    gateway_us_b10 bigint NOT NULL,
    gateway_us_b11 bigint NOT NULL,
    gateway_us_b12 bigint NOT NULL,
    gateway_us_b13 bigint NOT NULL,
    gateway_us_b14 bigint NOT NULL,
    gateway_us_b15 bigint NOT NULL,
    gateway_us_b16 bigint NOT NULL,
    gateway_us_b17 bigint NOT NULL,
    gateway_us_b18 bigint NOT NULL,
    gateway_us_b19 bigint NOT NULL,
    gateway_us_b20 bigint NOT NULL,
    gateway_us_b21 bigint NOT NULL,
    gateway_us_b22 bigint NOT NULL,
    gateway_us_b23 bigint NOT NULL,
    first_token_ms_b00 bigint NOT NULL,
    first_token_ms_b01 bigint NOT NULL,
    first_token_ms_b02 bigint NOT NULL,
    first_token_ms_b03 bigint NOT NULL,
    first_token_ms_b04 bigint NOT NULL,
    first_token_ms_b05 bigint NOT NULL,
    first_token_ms_b06 bigint NOT NULL,
    first_token_ms_b07 bigint NOT NULL,
    first_token_ms_b08 bigint NOT NULL,
    first_token_ms_b09 bigint NOT NULL,
    first_token_ms_b10 bigint NOT NULL,
    first_token_ms_b11 bigint NOT NULL,
    first_token_ms_b12 bigint NOT NULL,
    first_token_ms_b13 bigint NOT NULL,
    first_token_ms_b14 bigint NOT NULL,
    first_token_ms_b15 bigint NOT NULL,
    first_token_ms_b16 bigint NOT NULL,
    first_token_ms_b17 bigint NOT NULL,
    first_token_ms_b18 bigint NOT NULL,
    first_token_ms_b19 bigint NOT NULL,
    first_token_ms_b20 bigint NOT NULL,
    first_token_ms_b21 bigint NOT NULL,
    first_token_ms_b22 bigint NOT NULL,
    first_token_ms_b23 bigint NOT NULL,
    PRIMARY KEY (month, hour, project, endpoint, token, provider, model, status, routing_decision,
                 streamed)
) WITH (fillfactor = 70);

CREATE INDEX gateway_usage_hourly_by_hour ON gateway_usage_hourly (hour);

-- Requests that failed before their token was accepted: how many a minute, by what was answered and
-- where they came from (/24 of IPv4, /64 of IPv6, 'unix'; 'other' when there were too many).
CREATE TABLE gateway_refused (
    minute timestamptz NOT NULL,
    code text NOT NULL,
    network text NOT NULL,
    host text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (minute, code, network, host)
);

-- For `promptgate logs` and dashboards: the newest rows of one endpoint, token, ... at once. Those of
-- a status that is not ok, or of a routing decision, are few, so that other rows don't pay for it.
CREATE INDEX gateway_logs_by_endpoint ON gateway_logs (endpoint, request_id);
CREATE INDEX gateway_logs_by_token ON gateway_logs (token, request_id);
CREATE INDEX gateway_logs_by_status ON gateway_logs (status, request_id) WHERE status <> 'ok';
CREATE INDEX gateway_logs_by_decision ON gateway_logs (routing_decision, request_id)
    WHERE routing_decision IS NOT NULL;

-- Drops the oldest month that ended before a time in milliseconds, and deletes as many rows of
-- gateway_refused as are allowed. `rows` is how many rows the month had, as far as statistics know.
CREATE FUNCTION gateway_logs_expire(before_wall_ms bigint, rows_max bigint,
                                    OUT rows bigint, OUT more boolean)
    LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    before timestamptz := to_timestamp(before_wall_ms / 1000.0);
    months regclass[] := ARRAY(
        SELECT c.oid::regclass
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,
            LATERAL to_date(substr(c.relname, 14), 'YYYY_MM') AS month
        WHERE i.inhparent = 'gateway_logs'::regclass AND c.relname ~ '^gateway_logs_[0-9]+_[0-9]+$'
            AND month < date_trunc('month', before AT TIME ZONE 'UTC')
        ORDER BY month LIMIT 2);
    deleted bigint;
BEGIN
    rows := 0;
    IF months[1] IS NOT NULL THEN
        SELECT greatest(reltuples, 0)::bigint INTO rows FROM pg_class WHERE oid = months[1];
        EXECUTE format('DROP TABLE %s', months[1]);
    END IF;
    DELETE FROM gateway_refused WHERE ctid IN (
        SELECT ctid FROM gateway_refused WHERE minute < before LIMIT rows_max);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    more := months[2] IS NOT NULL OR deleted = rows_max;
END
$$;
