#!/usr/bin/env python3
"""The gateway against nginx and HAProxy at the same work, in one interleaved run.

usage: peers.py [--rounds N] [--seconds S] [--connections C] [--gateway PATH]

The work: plaintext HTTP/1.1 keep-alive callers with one of 1,000 tokens; look up the tenant, swap in
the key, set the version, evaluate a limit for each tenant, forward over TLS 1.3 keep-alive to an
upstream that is much cheaper than any gateway, one record a call on disk. The gateway is on one CPU,
load (wrk) and upstream (nginx) on the other. CPU per call is read from /proc for all of a
gateway's processes. Needs wrk, nginx, haproxy and openssl; sends only to loopback, and ends only what
it started.
"""

import argparse
import hashlib
import os
import pathlib
import re
import secrets
import shutil
import socket
import statistics
import string
import subprocess
import sys
import tempfile
import time
import zlib

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
TENANTS = 1000
TICK = os.sysconf("SC_CLK_TCK")
USER, CREDENTIAL = "689593e23e4c93cae95fd75c", "63252d14cc29df15cc481a76"


def token():
    body = "agw_" + "".join(secrets.choice(ALPHABET) for _ in range(43))
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, rest = divmod(number, 62)
        digits = ALPHABET[rest] + digits
    return body + digits


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, what):
    end = time.time() + 20
    while time.time() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    sys.exit(f"{what} does not listen")


def processes(root):
    """A process and all below it."""
    found = [root]
    for entry in pathlib.Path(f"/proc/{root}/task").glob("*/children"):
        for child in entry.read_text().split():
            found += processes(int(child))
    return found


def cpu_seconds(root):
    total = 0
    for pid in processes(root):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def pss_kib(root):
    total = 0
    for pid in processes(root):
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))
    return total


class Stage:
    def __init__(self, directory, gateway):
        self.directory = pathlib.Path(directory)
        self.gateway = gateway
        self.tokens = [token() for _ in range(TENANTS)]
        self.upstream_port = free_port()
        self.started = []
        self.certificates()
        self.upstream()

    def path(self, name):
        return str(self.directory / name)

    def write(self, name, text, mode=0o600):
        path = self.directory / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def openssl(self, *args):
        subprocess.run(["openssl", *args], check=True, capture_output=True)

    def certificates(self):
        p = self.path
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        self.openssl("req", "-x509", *curve, "-keyout", p("ca.key"), "-out", p("ca.pem"), "-subj", "/CN=ca", "-days", "2")
        self.openssl("req", *curve, "-keyout", p("tls.key"), "-out", p("tls.csr"), "-subj", "/CN=localhost")
        names = self.write("names", "subjectAltName=DNS:localhost\n")
        self.openssl("x509", "-req", "-in", p("tls.csr"), "-CA", p("ca.pem"), "-CAkey", p("ca.key"), "-CAcreateserial", "-out", p("tls.crt"), "-days", "2", "-extfile", names)

    def run(self, cpu, *args, env=None):
        log = open(self.path(f"log{len(self.started)}"), "wb")
        process = subprocess.Popen(["taskset", "-c", cpu, *args], stdout=log, stderr=log, env=env)
        self.started.append(process)
        return process

    def upstream(self):
        config = self.write("upstream.conf", f"""
daemon off; worker_processes 1; pid {self.path("upstream.pid")}; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 1h;
  client_body_temp_path {self.path("u1")}; proxy_temp_path {self.path("u2")}; fastcgi_temp_path {self.path("u3")}; uwsgi_temp_path {self.path("u4")}; scgi_temp_path {self.path("u5")};
  server {{ listen 127.0.0.1:{self.upstream_port} ssl backlog=4096; server_name localhost;
    ssl_certificate {self.path("tls.crt")}; ssl_certificate_key {self.path("tls.key")}; ssl_protocols TLSv1.3;
    location / {{ default_type application/json; return 200 '{{"success":true}}'; }} }} }}
""")
        self.run("1", "nginx", "-c", config, "-p", self.path(""))
        wait_for(self.upstream_port, "the upstream")

    def alloy_gateway(self, durability):
        port = free_port()
        name = f"gateway-{durability}"
        self.write("key", "bench-key-0123456789\n")
        tenants = "".join(
            f"  - {{ name: t{n}, key: k, users: all, tokens: [ {{ id: a, sha256: \"{hashlib.sha256(t.encode()).hexdigest()}\" }} ], limits: [ {{ requests: 1000000, per: 1s }} ], in_flight: 1024 }}\n"
            for n, t in enumerate(self.tokens))
        config = self.write(f"{name}.yaml", f"""version: 1
workers: 1
listen: [ {{ address: 127.0.0.1:{port} }} ]
admin: {{ address: off }}
upstream: {{ url: "https://localhost:{self.upstream_port}", trust: {{ file: ca.pem }}, idle_connections: 1024, connection_max_age: 1h }}
keys: {{ k: {{ secret: {{ file: key }} }} }}
audit: {{ directory: {name}, durability: {durability} }}
tenants:
{tenants}""")
        env = dict(os.environ, ALLOY_GATEWAY_LOG="warn")
        return self.run("0", self.gateway, "serve", "-c", config, env=env), port

    def nginx(self):
        port = free_port()
        tokens = "".join(f'"Bearer {t}" t{n};\n' for n, t in enumerate(self.tokens))
        config = self.write("nginx.conf", f"""
daemon off; worker_processes 1; pid {self.path("nginx.pid")}; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ keepalive_requests 100000000; keepalive_timeout 1h; map_hash_bucket_size 128; map_hash_max_size 8192;
  client_body_temp_path {self.path("n1")}; proxy_temp_path {self.path("n2")}; fastcgi_temp_path {self.path("n3")}; uwsgi_temp_path {self.path("n4")}; scgi_temp_path {self.path("n5")};
  map $http_authorization $tenant {{ default ""; {tokens} }}
  limit_req_zone $tenant zone=t:10m rate=1000000r/s;
  log_format trail escape=json '{{"time":"$time_iso8601","tenant":"$tenant","uri":"$uri","status":$status,"upstream":"$upstream_status","took":$request_time}}';
  access_log {self.path("nginx.log")} trail buffer=64k flush=1s;
  upstream alloy {{ server 127.0.0.1:{self.upstream_port}; keepalive 1024; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location ~ "^/users/[A-Za-z0-9._~-]{{1,128}}/credentials/[A-Za-z0-9._~-]{{1,128}}$" {{
      if ($request_method != DELETE) {{ return 405; }}
      if ($tenant = "") {{ return 401; }}
      limit_req zone=t burst=1000 nodelay;
      proxy_pass https://alloy; proxy_http_version 1.1; proxy_pass_request_headers off; proxy_pass_request_body off;
      proxy_set_header Host localhost; proxy_set_header Connection ""; proxy_set_header Authorization "bearer bench-key-0123456789";
      proxy_set_header x-api-version "2025-09"; proxy_set_header Accept application/json;
      proxy_ssl_protocols TLSv1.3; proxy_ssl_verify on; proxy_ssl_trusted_certificate {self.path("ca.pem")}; proxy_ssl_name localhost; proxy_ssl_server_name on; }}
    location / {{ return 404; }} }} }}
""")
        return self.run("0", "nginx", "-c", config, "-p", self.path("")), port

    def haproxy(self):
        port = free_port()
        tokens = self.write("tokens.map", "".join(f"{t} t{n}\n" for n, t in enumerate(self.tokens)))
        config = self.write("haproxy.cfg", f"""
global
  maxconn 4096
  nbthread 1
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
  http-request set-var(txn.tenant) req.hdr(authorization),regsub(^Bearer\\ ,,),map_str({tokens})
  http-request return status 405 if !{{ method DELETE }}
  http-request return status 404 if !{{ path_reg ^/users/[A-Za-z0-9._~-]{{1,128}}/credentials/[A-Za-z0-9._~-]{{1,128}}$ }}
  http-request return status 401 if !{{ var(txn.tenant) -m found }}
  http-request track-sc0 var(txn.tenant) table limits
  http-request deny deny_status 429 if {{ sc0_http_req_rate(limits) gt 1000000 }}
  http-request set-header authorization "bearer bench-key-0123456789"
  http-request set-header x-api-version 2025-09
  default_backend alloy
backend limits
  stick-table type string len 32 size 10k expire 1m store http_req_rate(1s)
backend alloy
  http-reuse always
  server a 127.0.0.1:{self.upstream_port} ssl verify required ca-file {self.path("ca.pem")} sni str(localhost) verifyhost localhost ssl-min-ver TLSv1.3 pool-max-conn 1024
""")
        return self.run("0", "haproxy", "-db", "-f", config), port

    def stop(self):
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            process.wait()


def load(stage, port, connections, seconds):
    script = stage.write("wrk.lua", """
local tokens = {}
for line in io.lines("%s") do tokens[#tokens + 1] = line end
local requests, n = {}, 0
function init()
  for i, token in ipairs(tokens) do
    requests[i] = wrk.format("DELETE", "/users/%s/credentials/%s", { ["Authorization"] = "Bearer " .. token, ["Host"] = "gateway" })
  end
end
function request() n = n %% #requests + 1; return requests[n] end
function done(summary, latency)
  io.write(string.format("result %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
""" % (stage.write("tokens", "\n".join(stage.tokens) + "\n"), USER, CREDENTIAL))
    out = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{port}/"],
                         check=True, capture_output=True, text=True).stdout
    requests, micros, errors, p50, p99 = map(int, re.search(r"result (.*)", out).group(1).split())
    if errors:
        sys.exit(f"{errors} errors:\n{out}")
    return requests, requests / (micros / 1e6), p50, p99


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--gateway", default="target/release/alloy-gateway")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    for program in ["wrk", "nginx", "haproxy", "openssl", "taskset"]:
        if not shutil.which(program):
            sys.exit(f"{program} is missing")
    directory = tempfile.mkdtemp(dir="target")
    stage = Stage(os.path.abspath(directory), os.path.abspath(args.gateway))
    try:
        subjects = {
            "gateway, relaxed": stage.alloy_gateway("relaxed"),
            "gateway, strict": stage.alloy_gateway("strict"),
            "nginx": stage.nginx(),
            "haproxy": stage.haproxy(),
        }
        results = {name: [] for name in subjects}
        idle = {}
        for name, (process, port) in subjects.items():
            wait_for(port, name)
        time.sleep(1)
        for name, (process, port) in subjects.items():
            idle[name] = pss_kib(process.pid)
            load(stage, port, args.connections, 1)
        for _ in range(args.rounds):
            for name, (process, port) in subjects.items():
                before = cpu_seconds(process.pid)
                requests, rate, p50, p99 = load(stage, port, args.connections, args.seconds)
                cpu = (cpu_seconds(process.pid) - before) / requests * 1e6
                results[name].append((cpu, rate, p50, p99, pss_kib(process.pid)))
        print(f"{args.connections} connections, {args.rounds} rounds of {args.seconds} s, medians")
        print(f"{'':18} {'CPU µs/call':>12} {'calls/s':>9} {'p50 µs':>8} {'p99 µs':>8} {'idle KiB':>9} {'loaded KiB':>11}")
        for name, rounds in results.items():
            cpu, rate, p50, p99, loaded = (statistics.median(values) for values in zip(*rounds))
            print(f"{name:18} {cpu:12.1f} {rate:9.0f} {p50:8.0f} {p99:8.0f} {idle[name]:9} {loaded:11.0f}")
    finally:
        stage.stop()
        if not args.keep:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
