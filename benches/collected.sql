-- Calls that look like those of fifty gateways over 90 days, two records each, for
-- measuring questions: psql -v calls=10000000 -f benches/collected.sql
-- Chains do not verify: hashes are made up. Not for a database that somebody needs.
\timing on
SET synchronous_commit = off;
SET maintenance_work_mem = '512MB';
ALTER TABLE alloy_gateway.record SET UNLOGGED;
DROP INDEX alloy_gateway.record_credential, alloy_gateway.record_user, alloy_gateway.record_tenant,
    alloy_gateway.record_time, alloy_gateway.record_outcome, alloy_gateway.record_opened,
    alloy_gateway.record_request, alloy_gateway.record_caller_request;
INSERT INTO alloy_gateway.chain (id, origin, gateway, version, last_seq, last_hash, last_event, last_time)
SELECT md5('chain' || n)::uuid, md5('chain' || n)::uuid, 'gateway-' || n, '0.1.0', :calls / 25, sha256('x'), 'checkpoint', now()
FROM generate_series(0, 49) n;
-- They count as hashed with a key that nobody has.
INSERT INTO alloy_gateway.record (chain, seq, time, event, hash, line)
SELECT md5('chain' || n)::uuid, 0, timestamptz '2026-08-25 00:00:00Z', 'trail.opened', sha256('x'), '{"mac":"hmac-sha256"}'
FROM generate_series(0, 49) n;
WITH calls AS (
    SELECT n, md5('chain' || n % 50)::uuid AS chain, n / 50 * 2 + 1 AS seq,
        timestamptz '2026-08-25 00:00:00Z' + n * (interval '90 days' / :calls) AS time,
        md5('request' || n)::uuid AS request_id, 'tenant-' || n % 47 AS tenant,
        substr(md5('user' || n % 100000), 1, 24) AS user_id, substr(md5('credential' || n), 1, 24) AS credential_id,
        repeat(md5(n::text), 2) AS hash
    FROM generate_series(0, :calls - 1) n
)
INSERT INTO alloy_gateway.record (chain, seq, time, event, request_id, tenant, token, user_id, credential_id, intent, outcome, status, hash, line)
SELECT chain, seq, time, 'request.intent', request_id, tenant, '2026-11', user_id, credential_id, NULL, NULL, NULL, decode(hash, 'hex'),
    '{"v":1,"seq":' || seq || ',"time":"' || to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","event":"request.intent","request_id":"' || request_id
    || '","tenant":"' || tenant || '","token":"2026-11","peer":"127.0.0.1:51512","user":"' || user_id || '","credential":"' || credential_id
    || '","config":"9f2c1a7b03de","prev":"' || hash || '","hash":"' || hash || '"}'
FROM calls
UNION ALL
SELECT chain, seq + 1, time + interval '80 ms', 'request.outcome', request_id, NULL, NULL, NULL, NULL, seq,
    CASE WHEN n % 1000 = 0 THEN 'in-doubt' ELSE 'deleted' END, 200, decode(hash, 'hex'),
    '{"v":1,"seq":' || seq + 1 || ',"time":"' || to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","event":"request.outcome","request_id":"' || request_id
    || '","intent":' || seq || ',"outcome":"' || CASE WHEN n % 1000 = 0 THEN 'in-doubt' ELSE 'deleted' END
    || '","status":200,"upstream_status":200,"attempts":1,"sent":"yes","latency_us":81234,"prev":"' || hash || '","hash":"' || hash || '"}'
FROM calls;
CREATE INDEX record_credential ON alloy_gateway.record (credential_id, time) WHERE credential_id IS NOT NULL;
CREATE INDEX record_user ON alloy_gateway.record (user_id, time) WHERE user_id IS NOT NULL;
CREATE INDEX record_tenant ON alloy_gateway.record (tenant, time) WHERE tenant IS NOT NULL;
CREATE INDEX record_time ON alloy_gateway.record (time) WHERE intent IS NULL;
CREATE INDEX record_outcome ON alloy_gateway.record (outcome, time) WHERE outcome IN ('in-doubt', 'not-deleted', 'failed');
CREATE INDEX record_opened ON alloy_gateway.record (chain, seq) WHERE event = 'trail.opened';
CREATE INDEX record_request ON alloy_gateway.record (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX record_caller_request ON alloy_gateway.record (caller_request_id) WHERE caller_request_id IS NOT NULL;
VACUUM ANALYZE alloy_gateway.record, alloy_gateway.chain;
