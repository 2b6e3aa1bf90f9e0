-- One row for each chain: a trail, as long as it lives.
CREATE TABLE alloy_gateway.chain (
    -- The id that the trail carries in the first record of each segment.
    id uuid PRIMARY KEY,
    -- The same, but where a trail was set back or copied: then that of the trail.
    origin uuid NOT NULL,
    -- What people call the gateway.
    gateway text NOT NULL,
    -- The gateway's version.
    version text NOT NULL,
    -- The last record that is here: where the gateway goes on.
    last_seq bigint NOT NULL,
    last_hash bytea NOT NULL,
    last_event text NOT NULL,
    last_time timestamptz NOT NULL,
    -- When the gateway was heard of first and last, by the database's clock.
    since timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX chain_origin ON alloy_gateway.chain (origin);
CREATE INDEX chain_gateway ON alloy_gateway.chain (gateway);

-- One row for each record of a trail. The line is what counts; the other columns are
-- there to be asked, and `audit verify` holds them against it.
CREATE TABLE alloy_gateway.record (
    chain uuid NOT NULL,
    seq bigint NOT NULL,
    time timestamptz NOT NULL,
    event text NOT NULL,
    request_id uuid,
    caller_request_id text,
    tenant text,
    token text,
    user_id text,
    credential_id text,
    -- The seq of the intent that an outcome ends.
    intent bigint,
    outcome text,
    status smallint,
    hash bytea NOT NULL,
    -- The line, byte for byte, without its end.
    line text NOT NULL,
    PRIMARY KEY (chain, seq)
);
CREATE INDEX record_credential ON alloy_gateway.record (credential_id, time) WHERE credential_id IS NOT NULL;
CREATE INDEX record_user ON alloy_gateway.record (user_id, time) WHERE user_id IS NOT NULL;
CREATE INDEX record_tenant ON alloy_gateway.record (tenant, time) WHERE tenant IS NOT NULL;
CREATE INDEX record_time ON alloy_gateway.record (time) WHERE intent IS NULL;
-- What wants a person, or may: seldom.
CREATE INDEX record_outcome ON alloy_gateway.record (outcome, time) WHERE outcome IN ('in-doubt', 'not-deleted', 'failed');
-- How records are hashed is said where a segment begins.
CREATE INDEX record_opened ON alloy_gateway.record (chain, seq) WHERE event = 'trail.opened';
CREATE INDEX record_request ON alloy_gateway.record (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX record_caller_request ON alloy_gateway.record (caller_request_id) WHERE caller_request_id IS NOT NULL;
