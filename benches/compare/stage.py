"""Where subjects are run: their files, the upstream, and how a process is started and ended."""

import os
import pathlib
import re
import secrets
import socket
import ssl
import string
import subprocess
import sys
import threading
import time
import zlib

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
USER, CREDENTIAL = "689593e23e4c93cae95fd75c", "63252d14cc29df15cc481a76"
KEY = "bench-key-0123456789"
VERSION = "2025-09"
ANSWER = '{"success":true}'


def token():
    """As `alloy-gateway token new` makes it."""
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


def path(user=USER):
    return f"/users/{user}/credentials/{CREDENTIAL}"


def request(token, method="DELETE", target=path()):
    return f"{method} {target} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def exchange(connection, data):
    """Sends a request and reads its whole answer: status, body."""
    connection.sendall(data)
    seen = b""
    while b"\r\n\r\n" not in seen:
        more = connection.recv(65536)
        if not more:
            raise OSError(f"closed after {seen!r}")
        seen += more
    head, body = seen.split(b"\r\n\r\n", 1)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    length = int(fields.get(b"content-length", 0))
    while len(body) < length or (b"transfer-encoding" in fields and not body.endswith(b"0\r\n\r\n")):
        more = connection.recv(1 << 20)
        if not more:
            raise OSError("closed within a body")
        body += more
    return int(head.split(b" ", 2)[1]), body


def ask(port, data):
    """One exchange on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return exchange(connection, data)


def fail(what):
    sys.exit(f"peers: {what}")


class Failed(Exception):
    """A subject could not do what is measured: told, and the rest goes on."""


class Recorder:
    """An upstream that keeps the heads that it got, for the check before timing."""

    def __init__(self, certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(certificate, key)
        self.heads, self.connections = [], 0
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, args=(context,), daemon=True).start()

    def accept(self, context):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(context, connection), daemon=True).start()

    def serve(self, context, connection):
        try:
            with context.wrap_socket(connection, server_side=True) as stream:
                self.connections += 1
                seen = b""
                while more := stream.recv(65536):
                    seen += more
                    while b"\r\n\r\n" in seen:
                        head, seen = seen.split(b"\r\n\r\n", 1)
                        self.heads.append(head.decode())
                        stream.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}\r\n\r\n{ANSWER}".encode())
        except OSError:
            pass


class Stage:
    def __init__(self, directory, gateway, tenants=1000):
        self.directory = pathlib.Path(directory)
        self.gateway = gateway
        self.all_tokens = [token() for _ in range(tenants)]
        self.tokens = self.all_tokens[:1000]
        self.started = []
        self.count = 0
        self.wrapper = []
        self.certificates()
        self.upstream_port, self.direct_port = free_port(), free_port()

    def more_tokens(self, count):
        """The first so many tokens, made when there are not that many yet."""
        self.all_tokens += [token() for _ in range(count - len(self.all_tokens))]
        return self.all_tokens[:count]

    def path(self, name):
        return str(self.directory / name)

    def fresh(self, name):
        """A name that no earlier subject had."""
        self.count += 1
        return f"{self.count}-{name}"

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
        # One for the same name that nobody vouches for.
        self.openssl("req", "-x509", *curve, "-keyout", p("stranger.key"), "-out", p("stranger.crt"), "-subj", "/CN=localhost", "-days", "2", "-addext", "subjectAltName=DNS:localhost")
        self.write("key", KEY + "\n")

    def run(self, cpus, *args, env=None):
        """Starts a process on these CPUs."""
        log = open(self.path(f"log-{self.fresh(os.path.basename(args[0]))}"), "wb")
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)
        began = time.perf_counter()
        try:
            process = subprocess.Popen(args, stdout=log, stderr=log, env=env)
        finally:
            os.sched_setaffinity(0, mine)
        process.log, process.began = log.name, began
        self.started.append(process)
        return process

    def upstream(self, cpu=1):
        """An nginx that answers at once, in plaintext on `direct_port`; a user `size-N` gets N bytes."""
        for size in SIZES:
            padding = size - len('{"success":true,"data":""}')
            if padding >= 0:
                self.write(f"{size}.json", '{"success":true,"data":"%s"}' % ("x" * padding), 0o644)
        self.directory.chmod(0o755)
        config = self.write("upstream.conf", f"""
daemon off; user root; worker_processes 1; pid {self.path("upstream.pid")}; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 1h; sendfile off; open_file_cache max=16;
  {nginx_paths(self, "u")}
  server {{ listen 127.0.0.1:{self.upstream_port} ssl backlog=4096; listen 127.0.0.1:{self.direct_port} backlog=4096; server_name localhost; default_type application/json;
    ssl_certificate {self.path("tls.crt")}; ssl_certificate_key {self.path("tls.key")}; ssl_protocols TLSv1.3;
    location / {{ return 200 '{ANSWER}'; }}
    location ~ ^/users/size-([0-9]+)/ {{ error_page 418 =200 /$1.json; return 418; }}
    location ~ ^/[0-9]+[.]json$ {{ internal; root {self.directory}; }} }} }}
""")
        self.upstream_process = self.run({cpu}, "nginx", "-c", config, "-p", self.path(""))
        self.wait_for(self.upstream_port, "the upstream")

    def wait_for(self, port, what, process=None):
        end = time.time() + 60
        while time.time() < end:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if process and process.poll() is not None:
                fail(f"{what} ended with {process.returncode}: {pathlib.Path(process.log).read_text()[-2000:]}")
            time.sleep(0.0002)
        fail(f"{what} does not listen")

    def end(self, process):
        """Ends one process that was started here."""
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process in self.started:
            self.started.remove(process)

    def fill_page_cache(self):
        """As it is on a machine that has been up for days: a file of holes takes the free memory,
        and whoever needs some gets it from there. A virtual machine gets each page that it never
        used, or has given back, from its host, which takes some 8 µs: whoever writes the most would
        pay for that, the gateway with its trail up to 3 µs a call."""
        text = pathlib.Path("/proc/meminfo").read_text()
        size = int(re.search(r"^MemAvailable:\s+(\d+) kB", text, re.M).group(1)) * 1024
        limit = pathlib.Path("/sys/fs/cgroup/memory.max")
        if limit.exists() and (most := limit.read_text().strip()).isdigit():
            # More would only push out what the subjects need.
            size = min(size, int(most) // 2)
        self.write("holes", "")
        os.truncate(self.path("holes"), size)
        with open(self.path("holes"), "rb", buffering=0) as holes:
            while holes.read(1 << 20):
                pass

    def stop_all_but_the_upstream(self):
        for process in list(reversed(self.started)):
            if process is not self.upstream_process:
                self.end(process)

    def stop(self):
        for process in list(reversed(self.started)):
            self.end(process)
        pathlib.Path(self.path("holes")).unlink(missing_ok=True)


SIZES = [16, 1 << 10, 16 << 10, 128 << 10, 1 << 20]


def nginx_paths(stage, name):
    kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    return " ".join(f"{kind}_temp_path {stage.path(name + kind)};" for kind in kinds)
