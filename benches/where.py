#!/usr/bin/env python3
"""Where the time of a call goes, and that of a start: for docs/performance.md.

    benches/where.py [--gateway BINARY] [--seconds N]

Of the gateway with both kinds of trail, and of nginx at the same work: who has the CPU (perf), which
system calls a call makes (strace), and how many instructions in user space (callgrind; of these, the
share of SHA-256, for which valgrind hides the processor's own). Of a start with 1,000 tenants: when
each step is reached. Everything sends to loopback only; what is missing is installed.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

import instructions
from compare import figures, install
from compare.stage import Stage, ask, fail, request
from compare.subjects import Subject, gateway, nginx
from compare.tables import markdown

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = {"perf": "linux-perf", "strace": "strace", "valgrind": "valgrind", "nginx": "nginx-light", "wrk": "wrk", "openssl": "openssl"}
CONNECTIONS = 64
# What is seen of a start: the step that it ends, and the system call that says so. Of a step that is
# not seen, its time counts to the next.
STEPS = [
    ("the kernel, the linker, the command line", r'openat\(.*\.yaml"'),
    ("reading and checking the config", r'openat\(.*ca\.pem"'),
    ("certificates, keys, the table of tokens", r'openat\(.*/lock"'),
    ("the trail, workers, until it listens", r"listen\("),
    # What was read stands in a second line, if another thread did something meanwhile.
    ("until a call is taken and read", r"recvfrom.*DELETE"),
    ("the intent, the connection to the upstream", r"connect\(.*sin_port"),
    ("TLS, the upstream's answer, the outcome, the answer", r"sendto\(.*HTTP/1.1 200"),
]


@contextlib.contextmanager
def watched(*command):
    """While a tool looks on."""
    tool = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    if tool.poll() is not None:
        fail(f"{' '.join(command)}: {tool.stderr.read()}")
    try:
        yield
    finally:
        tool.send_signal(signal.SIGINT)
        tool.communicate(timeout=60)


def threads(process):
    """The names of all its threads."""
    found = (pathlib.Path(f"/proc/{pid}/task").glob("*/comm") for pid in figures.processes(process.pid))
    return {comm.read_text().strip() for comms in found for comm in comms}


def profile(stage, process, port, seconds):
    """CPU µs a call by who has it: thread, and kernel or program."""
    data, mine = stage.path(stage.fresh("perf")), threads(process)
    with watched("perf", "record", "-a", "-C", "0", "-e", "cpu-clock", "-F", "2000", "-o", data):
        load = figures.load(stage, process, port, CONNECTIONS, seconds)
    text = subprocess.run(["perf", "report", "-i", data, "--no-children", "--sort", "comm,dso", "--field-separator", ";"],
                          capture_output=True, text=True).stdout
    found = collections.Counter()
    for share, thread, place in re.findall(r"^\s*([\d.]+)%\s*;([^;]+);(\S+)", text, re.M):
        if (thread := thread.strip()) in mine:
            # A worker's name has its number.
            found[re.sub(r"-\d+$", "", thread), "kernel" if place.startswith("[kernel") else "program"] += float(share)
    return {part: share / found.total() * load["cpu_us"] for part, share in found.items()}, load["cpu_us"]


def system_calls(stage, process, port, seconds):
    """System calls a call, by name."""
    log, pids = stage.path(stage.fresh("strace")), ",".join(map(str, figures.processes(process.pid)))
    with watched("strace", "-f", "-c", "-o", log, "-p", pids):
        calls = figures.load(stage, process, port, CONNECTIONS, seconds)["calls"]
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", pathlib.Path(log).read_text(), re.M)
    return {name: int(count) / calls for count, name in rows if name != "total"}


def user_instructions(stage, subject):
    """Instructions a call, and of these SHA-256."""
    few, many = (instructions.counted(stage, subject, calls) for calls in (instructions.FEW, instructions.MANY))
    per_call = {part: (many[part] - few[part]) / (instructions.MANY - instructions.FEW) for part in many}
    return sum(per_call.values()), per_call.get("SHA-256", 0)


def steps(stage):
    """Milliseconds of each step of one start, and of all."""
    log = stage.path(stage.fresh("start"))
    # Few calls, and told by a filter in the kernel: else looking would take longer than starting.
    stage.wrapper = ["strace", "-f", "--seccomp-bpf", "-ttt", "-s", "64", "-e", "trace=execve,openat,listen,recvfrom,connect,sendto", "-o", log]
    process, port = Subject("gateway", gateway("relaxed")).start(stage)
    stage.wrapper = []
    if ask(port, request(stage.tokens[0]))[0] != 200:
        fail("no good answer after the start")
    # strace hands the signal on to nobody.
    for pid in figures.processes(process.pid)[1:]:
        os.kill(pid, signal.SIGTERM)
    process.wait(30)
    stage.started.remove(process)
    lines = [(float(at), what) for at, what in re.findall(r"^\d+\s+(\d+\.\d+) (.*)", pathlib.Path(log).read_text(), re.M)]
    began = before = lines[0][0]
    found = {}
    for name, sign in STEPS:
        at = next((at for at, what in lines if at >= before and re.search(sign, what)), None)
        if at is None:
            fail(f"a start without {sign}")
        found[name], before = (at - before) * 1e3, at
    return found | {"all": (before - began) * 1e3}


def look(stage, seconds):
    """All that is asked of each subject, by its name."""
    cpu, made, counted = {}, {}, {}
    for subject in [Subject("relaxed", gateway("relaxed")), Subject("strict", gateway("strict")), Subject("nginx", nginx)]:
        process, port = subject.start(stage)
        figures.load(stage, process, port, CONNECTIONS, 1)
        cpu[subject.name] = profile(stage, process, port, seconds)
        made[subject.name] = system_calls(stage, process, port, seconds)
        stage.end(process)
        counted[subject.name] = user_instructions(stage, subject)
    return cpu, made, counted


def by_subject(found, least, digits):
    """A row for each part that has at least so much somewhere, the largest first."""
    most = collections.Counter()
    for parts in found.values():
        most |= collections.Counter(parts)
    return [[part, *(f"{parts.get(part, 0):.{digits}f}" for parts in found.values())] for part, share in most.most_common() if share >= least]


def cpu_table(cpu):
    parts = {name: {": ".join(part): share for part, share in found.items()} for name, (found, _) in cpu.items()}
    rows = by_subject(parts, 0.05, 1)
    rows.append(["all", *(f"{total:.1f}" for _, total in cpu.values())])
    return markdown(f"CPU µs a call by thread, {CONNECTIONS} connections, one CPU (perf)", ["", *cpu], rows)


def system_calls_table(made):
    rows = by_subject(made, 0.01, 2)
    rows.append(["all", *(f"{sum(found.values()):.1f}" for found in made.values())])
    return markdown(f"System calls a call, {CONNECTIONS} connections (strace, which slows them down)", ["", *made], rows)


def instructions_table(counted):
    rows = [[name, f"{total:,.0f}", f"{total - sha:,.0f}"] for name, (total, sha) in counted.items()]
    return markdown(f"Instructions a call in user space, {instructions.CONNECTIONS} connections in turn (callgrind)", ["", "all", "without SHA-256"], rows)


def start_table(starts):
    of = lambda step: [start[step] for start in starts]
    rows = [[step, f"{statistics.median(of(step)):.1f}", f"{min(of(step)):.1f}"] for step in starts[0]]
    return markdown(f"A start with 1,000 tenants and its first call, ms (strace, {len(starts)} starts)", ["", "median", "least"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", default=ROOT / "target/shipped/release/alloy-gateway", help="that of deploy/build if none is named")
    parser.add_argument("--seconds", type=int, default=4)
    args = parser.parse_args()
    install.packages(TOOLS)
    if not {0, 1} <= os.sched_getaffinity(0):
        fail("needs the CPUs 0 and 1")
    os.sched_setaffinity(0, {1})
    directory = tempfile.mkdtemp(dir=ROOT / "target")
    stage = Stage(directory, os.path.abspath(args.gateway))
    try:
        stage.upstream()
        stage.fill_page_cache()
        cpu, made, counted = look(stage, args.seconds)
        for table in (cpu_table(cpu), system_calls_table(made), instructions_table(counted)):
            print(table)
        print(start_table([steps(stage) for _ in range(9)]))
    finally:
        stage.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
