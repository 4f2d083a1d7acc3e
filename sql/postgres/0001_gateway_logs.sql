-- One row for each request whose token was accepted.
--
-- Partitions are months of UTC, as ranges of request_id: a UUIDv7 begins with the milliseconds since
-- 1970. There is none for what no other takes: gateway_logs_partition makes those that are needed.
-- `stored` grows in the order in which rows become visible, for those who follow them.
CREATE SEQUENCE gateway_logs_stored;

CREATE TABLE gateway_logs (
    request_id uuid NOT NULL PRIMARY KEY,
    created_at timestamptz,
    admitted_at timestamptz,
    project text,
    endpoint text,
    token text,
    session_id text,
    client_ip text,
    provider text,
    model text,
    provider_model text,
    credential text,
    status text,
    http_status bigint,
    error_message text,
    routing_decision text,
    attempts text,
    streamed boolean,
    finish_reason text,
    prompt_tokens bigint,
    completion_tokens bigint,
    cached_tokens bigint,
    cache_write_tokens bigint,
    reasoning_tokens bigint,
    total_tokens bigint,
    cost_basis text,
    cost_nano_usd bigint,
    cost_usd double precision GENERATED ALWAYS AS (cost_nano_usd / 1e9::double precision) STORED,
    latency_ms bigint,
    upstream_ms bigint,
    first_token_ms bigint,
    gateway_us bigint,
    bytes_in bigint,
    bytes_out bigint,
    request_body text,
    response_body text,
    host text,
    worker bigint,
    stored bigint NOT NULL DEFAULT nextval('gateway_logs_stored')
) PARTITION BY RANGE (request_id);

CREATE INDEX gateway_logs_stored_idx ON gateway_logs (stored);

ALTER SEQUENCE gateway_logs_stored OWNED BY gateway_logs.stored;

-- How far each spool segment is in gateway_logs; changed in the same transaction as the rows.
CREATE TABLE gateway_spool (
    host text NOT NULL,
    segment text NOT NULL,
    committed bigint NOT NULL,
    PRIMARY KEY (host, segment)
);

-- The smallest request_id of a time in milliseconds; NULL behind the last time that one can have.
CREATE FUNCTION gateway_logs_first_id(wall_ms bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN wall_ms < 1::bigint << 48
        THEN (lpad(to_hex(wall_ms), 12, '0') || repeat('0', 20))::uuid END
$$;

-- Makes the partition of a month, named by any time in it, unless it is there. It is made aside and
-- then attached: who reads or writes gateway_logs meanwhile is not held up.
CREATE FUNCTION gateway_logs_partition(wall_ms bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    month timestamp := date_trunc('month', to_timestamp(wall_ms / 1000) AT TIME ZONE 'UTC');
    home text := (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.oid = 'gateway_logs'::regclass);
    name text := 'gateway_logs_' || to_char(month, 'YYYY_MM');
    low uuid := gateway_logs_first_id((extract(epoch FROM month) * 1000)::bigint);
    high uuid := gateway_logs_first_id(
        (extract(epoch FROM month + interval '1 month') * 1000)::bigint);
BEGIN
    FOR attempt IN 1..2 LOOP
        IF EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                   WHERE i.inhparent = 'gateway_logs'::regclass AND c.relname = name) THEN
            RETURN name;
        END IF;
        -- One at a time; whoever waited looks again.
        IF attempt = 1 THEN
            PERFORM pg_advisory_xact_lock(1885826151, 1);
        END IF;
    END LOOP;
    EXECUTE format('CREATE TABLE %I.%I (LIKE gateway_logs INCLUDING ALL)', home, name);
    EXECUTE format('ALTER TABLE gateway_logs ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%s)',
                   home, name, low, coalesce(quote_literal(high), 'MAXVALUE'));
    RETURN name;
END
$$;
