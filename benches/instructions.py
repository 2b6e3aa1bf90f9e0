#!/usr/bin/env python3
"""How many instructions a call costs the gateway, counted by callgrind: without the noise of a clock.

The release binary makes two fixed numbers of calls over 16 keep-alive connections; the difference,
divided by the calls that one had more, is the whole request path and nothing of start and end. It is
held against benches/instructions.json, and fails when it is more than 5 % above; after a gain, or a
rise on purpose, --write commits to the new figure.

The kernel's work is not in it, and valgrind has no SHA-NI: the instructions of SHA-256 are stated
apart and not compared.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

from compare import install
from compare.stage import Stage, exchange, fail, request
from compare.subjects import Subject, gateway

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIGURES = ROOT / "benches/instructions.json"
CONNECTIONS, FEW, MANY = 16, 320, 1920
TOLERANCE = 0.05
STD = {"core", "alloc", "std", "hashbrown"}
SHA256 = re.compile(r"sha256_block")


def part_of(function, file, binary):
    """Whose code it is: by the file that a line came from, so that what was inlined counts where it
    was written."""
    if SHA256.search(function):
        return "SHA-256"
    if "malloc" in file or re.search(r"malloc|free|realloc|calloc|_int_", function):
        return "malloc and free"
    if crate := re.search(r"/registry/src/[^/]+/([^/]+?)-\d", file):
        return crate.group(1)
    if "/rustc/" in file or file.startswith("library/"):
        # Of the standard library, nearly all is inlined: it is whose function it is in.
        crate = next((c for c in re.findall(r"(\w+)::", function) if c not in STD), None)
        return {"alloy_gateway": "alloy-gateway: " + next(iter(re.findall(r"alloy_gateway::(\w+)", function)), "")}.get(crate, (crate or "std").replace("_", "-"))
    if module := re.search(r"(?:^|/)src/(\w+)", file):
        return f"alloy-gateway: {module.group(1)}"
    if "aws_lc" in function or "aws-lc" in file:
        return "aws-lc-sys"
    return "libc" if "libc" in binary or "mem" in function else "other"


class Names:
    """callgrind writes a name once, and then its number alone."""

    def __init__(self):
        self.known = {}

    def read(self, text):
        number, _, name = text.partition(" ")
        if name:
            self.known[number] = name
        return self.known.get(number, number)


def by_part(text):
    """Own cost in a callgrind file, by whose code it is."""
    files, functions, objects = Names(), Names(), Names()
    costs = collections.Counter()
    file = function = binary = ""
    is_call = False
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key in ("fl", "fi", "fe"):
            file = files.read(value)
        elif key == "fn":
            function = functions.read(value)
        elif key == "ob":
            binary = objects.read(value)
        elif key in ("cfn", "cfi", "cfl", "cob"):
            {"cfn": functions, "cob": objects}.get(key, files).read(value)
        elif key == "calls":
            is_call = True
        elif line[:1] in tuple("0123456789+-*"):
            if not is_call:
                costs[part_of(function, file, binary)] += int(line.split()[1])
            is_call = False
    return costs


def counted(stage, subject, calls):
    """One run under callgrind: own cost by part, of the process that does the most."""
    out = stage.path(stage.fresh("callgrind"))
    stage.wrapper = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}.%p"]
    process, port = subject.start(stage, cpus=os.sched_getaffinity(0))
    callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    made = 0
    while made < calls:
        for caller in callers:
            status, _ = exchange(caller, request(stage.tokens[made % 1000]))
            if status != 200:
                fail(f"answered {status}")
            made += 1
    for caller in callers:
        caller.close()
    process.send_signal(signal.SIGTERM)
    if process.wait(60):
        fail(f"{subject.name} ended with {process.returncode}: {pathlib.Path(process.log).read_text()}")
    stage.wrapper = []
    of = lambda text: int(re.search(r"^(?:summary|totals): (\d+)", text, re.M).group(1))
    text = max((file.read_text() for file in stage.directory.glob(f"{pathlib.Path(out).name}.*")), key=of)
    costs, total = by_part(text), of(text)
    if abs(sum(costs.values()) - total) > total * 0.001:
        fail(f"read {sum(costs.values())} of {total} instructions: the format of callgrind's file has changed")
    return costs


def per_call(stage, durability):
    subject = Subject(durability, gateway(durability))
    few, many = counted(stage, subject, FEW), counted(stage, subject, MANY)
    return {part: (many[part] - few[part]) / (MANY - FEW) for part in many}


def measure(binary):
    directory = tempfile.mkdtemp(dir=ROOT / "target")
    stage = Stage(directory, os.path.abspath(binary))
    try:
        stage.upstream(cpu=max(os.sched_getaffinity(0)))
        return {durability: per_call(stage, durability) for durability in ("relaxed", "strict")}
    finally:
        stage.stop()
        shutil.rmtree(directory, ignore_errors=True)


def show(found):
    parts = sorted(found["relaxed"], key=lambda part: -found["relaxed"][part])
    print("| instructions a call | relaxed | strict |\n|---|---:|---:|")
    shown = [part for part in parts if found["relaxed"][part] >= 100]
    for part in shown:
        print(f"| {part} | {found['relaxed'][part]:,.0f} | {found['strict'].get(part, 0):,.0f} |")
    rest = [sum(cost for part, cost in costs.items() if part not in shown) for costs in found.values()]
    print(f"| the rest | {rest[0]:,.0f} | {rest[1]:,.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", default=ROOT / "target/release/alloy-gateway", help="built with cargo build --release --locked")
    parser.add_argument("--write", action="store_true", help="commit to what was counted")
    args = parser.parse_args()
    install.packages({"valgrind": "valgrind", "nginx": "nginx-light", "openssl": "openssl"})
    found = measure(args.gateway)
    show(found)
    totals = {name: round(sum(cost for part, cost in costs.items() if part != "SHA-256")) for name, costs in found.items()}
    if args.write:
        FIGURES.write_text(json.dumps(totals, indent=2) + "\n")
    wrong = False
    for name, committed in json.loads(FIGURES.read_text()).items():
        change = totals[name] / committed - 1
        print(f"{name}: {totals[name]:,} instructions a call without SHA-256, committed {committed:,} ({change:+.1%})")
        wrong |= change > TOLERANCE
        if change < -TOLERANCE:
            print("a gain: commit to it with benches/instructions.py --write")
    if wrong:
        sys.exit(f"more than {TOLERANCE:.0%} above: find out why; if it is on purpose, commit to it with benches/instructions.py --write")


if __name__ == "__main__":
    main()
