"""The gateway and its peers, each set up for the same work."""

import hashlib
import os

from .stage import KEY, VERSION, free_port, nginx_paths

IDS = "[A-Za-z0-9._~-]{1,128}"
MANY = 1_000_000


class Subject:
    """One way to do the work. `start` gives the process and its port.

    `start(stage, upstream, workers, limit, tokens)`: the upstream's port, how many CPUs, how many
    calls a second a tenant may make, and whose tokens are known.
    """

    def __init__(self, name, start, leaves_out="", h2=False, trail=False):
        self.name, self.starter, self.leaves_out = name, start, leaves_out
        self.h2, self.trail = h2, trail

    def start(self, stage, upstream=None, workers=1, limit=MANY, tokens=None, cpus=None):
        cpus = cpus or ({0} if workers == 1 else {0, 1})
        started = self.starter(stage, cpus, upstream or stage.upstream_port, workers, limit, tokens or stage.tokens)
        process, port, *rest = started
        process.records_in = rest[0] if rest else None
        process.h2_port = rest[1] if len(rest) > 1 else port
        stage.wait_for(port, self.name, process)
        return process, port


def gateway(durability, access="off", env=None):
    def start(stage, cpus, upstream, workers, limit, tokens):
        port, name = free_port(), stage.fresh(f"gateway-{durability}")
        tenants = "".join(
            f"  - {{ name: t{n}, key: k, users: all, tokens: [ {{ id: a, sha256: \"{hashlib.sha256(t.encode()).hexdigest()}\" }} ], limits: [ {{ requests: {limit}, per: 1s }} ], in_flight: 1024 }}\n"
            for n, t in enumerate(tokens))
        config = stage.write(f"{name}.yaml", f"""version: 1
workers: {workers}
listen: [ {{ address: 127.0.0.1:{port} }} ]
admin: {{ address: off }}
log: {{ level: warn, access: {access} }}
upstream: {{ url: "https://localhost:{upstream}", trust: {{ file: ca.pem }}, idle_connections: 1024, connection_max_age: 1h }}
keys: {{ k: {{ secret: {{ file: key }} }} }}
audit: {{ directory: {name}, durability: {durability} }}
tenants:
{tenants}""")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ALLOY_GATEWAY", "RUST_LOG"))}
        if access != "off":
            environment["ALLOY_GATEWAY_LOG"] = "info"
        process = stage.run(cpus, *stage.wrapper, stage.gateway, "serve", "-c", config, env=environment)
        return process, port, stage.path(name)
    return start


def nginx(stage, cpus, upstream, workers, limit, tokens):
    port, h2, name = free_port(), free_port(), stage.fresh("nginx")
    known = "".join(f'"Bearer {t}" t{n};\n' for n, t in enumerate(tokens))
    log = stage.path(f"{name}.log")
    config = stage.write(f"{name}.conf", f"""
daemon off; user root; worker_processes {workers}; pid {stage.path(name + ".pid")}; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{ keepalive_requests 100000000; keepalive_timeout 1h; map_hash_bucket_size 128; map_hash_max_size {max(8192, len(tokens) * 2)};
  {nginx_paths(stage, name)}
  map $http_authorization $tenant {{ default ""; {known} }}
  limit_req_zone $tenant zone=t:32m rate={limit}r/s; limit_req_status 429;
  log_format trail escape=json '{{"time":"$time_iso8601","tenant":"$tenant","uri":"$uri","status":$status,"upstream":"$upstream_status","took":$request_time}}';
  access_log {log} trail buffer=64k flush=1s;
  upstream alloy {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; listen 127.0.0.1:{h2} http2 backlog=4096;
    location ~ "^/users/{IDS}/credentials/{IDS}$" {{
      if ($request_method != DELETE) {{ return 405; }}
      if ($tenant = "") {{ return 401; }}
      limit_req zone=t burst={min(limit, 1000)} nodelay;
      proxy_pass https://alloy; proxy_http_version 1.1; proxy_pass_request_headers off; proxy_pass_request_body off;
      proxy_set_header Host localhost; proxy_set_header Connection ""; proxy_set_header Authorization "bearer {KEY}";
      proxy_set_header x-api-version "{VERSION}"; proxy_set_header Accept application/json;
      proxy_ssl_protocols TLSv1.3; proxy_ssl_verify on; proxy_ssl_trusted_certificate {stage.path("ca.pem")}; proxy_ssl_name localhost; proxy_ssl_server_name on; }}
    location / {{ return 404; }} }} }}
""")
    return stage.run(cpus, *stage.wrapper, "nginx", "-c", config, "-p", stage.path("")), port, log, h2


def haproxy(stage, cpus, upstream, workers, limit, tokens):
    port, name = free_port(), stage.fresh("haproxy")
    known = stage.write(f"{name}.map", "".join(f"{t} t{n}\n" for n, t in enumerate(tokens)))
    config = stage.write(f"{name}.cfg", f"""
global
  maxconn 4096
  nbthread {workers}
  log stdout format raw local0
defaults
  mode http
  timeout client 1h
  timeout server 30s
  timeout connect 2s
  log global
  log-format '{{"tenant":"%[var(txn.tenant)]","status":%ST,"uri":"%HU","took":%Tt}}'
frontend f
  bind 127.0.0.1:{port}
  http-request set-var(txn.tenant) req.hdr(authorization),regsub(^Bearer\\ ,,),map_str({known})
  http-request return status 404 if !{{ path_reg ^/users/{IDS}/credentials/{IDS}$ }}
  http-request return status 405 if !{{ method DELETE }}
  http-request return status 401 if !{{ var(txn.tenant) -m found }}
  http-request track-sc0 var(txn.tenant) table limits
  http-request deny deny_status 429 if {{ sc0_http_req_rate(limits) gt {limit} }}
  http-request set-header authorization "bearer {KEY}"
  http-request set-header x-api-version {VERSION}
  http-request set-header host localhost
  default_backend alloy
backend limits
  stick-table type string len 32 size 200k expire 1m store http_req_rate(1s)
backend alloy
  http-reuse always
  server a 127.0.0.1:{upstream} ssl verify required ca-file {stage.path("ca.pem")} sni str(localhost) verifyhost localhost ssl-min-ver TLSv1.3 pool-max-conn 1024
""")
    process = stage.run(cpus, "haproxy", "-db", "-f", config)
    return process, port, process.log


def pingora(stage, cpus, upstream, workers, limit, tokens):
    port, name = free_port(), stage.fresh("pingora")
    known = stage.write(f"{name}.tokens", "".join(f"{t} t{n}\n" for n, t in enumerate(tokens)))
    log = stage.path(f"{name}.log")
    process = stage.run(cpus, stage.pingora, f"127.0.0.1:{port}", f"127.0.0.1:{upstream}", stage.path("ca.pem"), known, log, str(workers), str(limit))
    return process, port, log


def envoy(stage, cpus, upstream, workers, limit, tokens):
    port, name = free_port(), stage.fresh("envoy")
    log = stage.path(f"{name}.log")
    known = "".join(f"              - {{ key: {t}, client: t{n} }}\n" for n, t in enumerate(tokens))
    whole = "{ default_value: { numerator: 100, denominator: HUNDRED } }"
    head = lambda key, value: f"{{ header: {{ key: {key}, value: \"{value}\" }}, append_action: OVERWRITE_IF_EXISTS_OR_ADD }}"
    bucket = f"{{ max_tokens: {limit}, tokens_per_fill: {limit}, fill_interval: 1s }}"
    config = stage.write(f"{name}.yaml", f"""
layered_runtime: {{ layers: [ {{ name: s, static_layer: {{ re2.max_program_size.error_level: 10000 }} }} ] }}
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    enable_reuse_port: true
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: f
          codec_type: AUTO
          generate_request_id: false
          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {log}
              log_format: {{ text_format_source: {{ inline_string: "{{\\"time\\":\\"%START_TIME%\\",\\"tenant\\":\\"%REQ(X-TENANT)%\\",\\"uri\\":\\"%REQ(:PATH)%\\",\\"status\\":%RESPONSE_CODE%,\\"took\\":%DURATION%}}\\n" }} }}
          http_filters:
          - name: envoy.filters.http.api_key_auth
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth
              key_sources: [ {{ header: Authorization }} ]
              forwarding: {{ header: x-tenant, hide_credentials: true }}
              credentials:
{known}
          - name: envoy.filters.http.local_ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: l
              max_dynamic_descriptors: {max(1024, len(tokens) * 2)}
              token_bucket: {{ max_tokens: {MANY * 10}, tokens_per_fill: {MANY * 10}, fill_interval: 1s }}
              filter_enabled: {whole}
              filter_enforced: {whole}
              rate_limits: [ {{ actions: [ {{ request_headers: {{ header_name: x-tenant, descriptor_key: tenant }} }} ] }} ]
              descriptors: [ {{ entries: [ {{ key: tenant }} ], token_bucket: {bucket} }} ]
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true }}
          route_config:
            virtual_hosts:
            - name: v
              domains: [ "*" ]
              routes:
              - match: {{ safe_regex: {{ regex: "/users/{IDS}/credentials/{IDS}" }}, headers: [ {{ name: ":method", string_match: {{ exact: DELETE }} }} ] }}
                route: {{ cluster: alloy, timeout: 30s, host_rewrite_literal: localhost }}
                request_headers_to_add: [ {head("authorization", "bearer " + KEY)}, {head("x-api-version", VERSION)} ]
                request_headers_to_remove: [ x-tenant ]
              - match: {{ safe_regex: {{ regex: "/users/{IDS}/credentials/{IDS}" }} }}
                direct_response: {{ status: 405 }}
  clusters:
  - name: alloy
    connect_timeout: 2s
    type: STATIC
    circuit_breakers: {{ thresholds: [ {{ max_connections: 4096, max_pending_requests: 4096, max_requests: 4096 }} ] }}
    load_assignment: {{ cluster_name: alloy, endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }} }} ] }} ] }}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: localhost
        common_tls_context:
          tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
          validation_context: {{ trusted_ca: {{ filename: {stage.path("ca.pem")} }}, match_typed_subject_alt_names: [ {{ san_type: DNS, matcher: {{ exact: localhost }} }} ] }}
""")
    process = stage.run(cpus, stage.envoy, "-c", config, "--concurrency", str(workers), "--base-id", str(os.getpid() % 10000 * 100 + stage.count % 100), "-l", "error")
    return process, port, log


def all_subjects():
    buffered = "one buffered line a call, written but not chained and not synced"
    return [
        Subject("gateway, relaxed", gateway("relaxed"), h2=True, trail=True,
                leaves_out="two chained records a call, written, not synced; access lines off, since the trail is the record; no admin listener"),
        Subject("gateway, strict", gateway("strict"), h2=True, trail=True,
                leaves_out="two chained records a call, both synced; no peer has that"),
        Subject("gateway, relaxed, access lines", gateway("relaxed", "all"), h2=True, trail=True,
                leaves_out="the same as relaxed, and an access line a call besides"),
        Subject("nginx", nginx, h2=True, leaves_out=f"{buffered}; its map matches tokens without regard to case; a limit of at most 1,000 at once"),
        Subject("HAProxy", haproxy, h2=True, leaves_out=f"a line a call to standard output, unbuffered, without the time of day, not chained and not synced; the caller's other headers reach the upstream"),
        Subject("Pingora", pingora, leaves_out=f"{buffered}; its limit is an estimate over hashed slots; no HTTP/2; the caller's other headers reach the upstream"),
        Subject("Envoy", envoy, h2=True, leaves_out=f"{buffered}; 401 before 404 and 405; the caller's other headers reach the upstream"),
    ]
