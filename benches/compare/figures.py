"""How each figure is taken."""

import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time

from .stage import Failed, ask, fail, path, request

TICK = os.sysconf("SC_CLK_TCK")


def processes(root):
    """A process and all below it."""
    found = [root]
    for entry in pathlib.Path(f"/proc/{root}/task").glob("*/children"):
        for child in entry.read_text().split():
            found += processes(int(child))
    return found


def cpu_seconds(root):
    """Of all its processes, their threads and children that ended included."""
    total = 0
    for pid in processes(root):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += sum(map(int, fields[11:15]))
    return total / TICK


def memory_kib(root):
    """PSS of all its processes, as if nothing else mapped the same files: a library that the
    upstream or another subject has loaded, too, counts in full."""
    pids, total = processes(root), 0
    for pid in pids:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        field = lambda name: int(re.search(rf"^{name}:\s+(\d+)", text, re.M).group(1))
        total += field("Private_Clean") + field("Private_Dirty")
        total += (field("Shared_Clean") + field("Shared_Dirty")) / len(pids)
    return total


def pss_kib(root):
    """PSS of all its processes, as the kernel states it: a page that others map, too, is shared out."""
    texts = (pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in processes(root))
    return sum(int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) for text in texts)


def wake_ups(root):
    """Voluntary context switches of all its threads, by now."""
    total = 0
    for pid in processes(root):
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", task.read_text(), re.M).group(1))
    return total


SCRIPT = """
local tokens = {}
for line in io.lines("%s") do tokens[#tokens + 1] = line end
local requests, n = {}, 0
function init()
  for i, token in ipairs(tokens) do
    requests[i] = wrk.format("DELETE", "%s", { ["Authorization"] = "Bearer " .. token, ["Host"] = "gateway" })
  end
end
function request() n = n %% #requests + 1; return requests[n] end
function done(summary, latency)
  io.write(string.format("result %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


def load(stage, process, port, connections, seconds, target=path(), tokens=None):
    """As many calls as go: CPU µs a call, calls/s, latency in µs, memory within the load."""
    known = stage.write("tokens", "\n".join(tokens or stage.tokens) + "\n")
    script = stage.write("wrk.lua", SCRIPT % (known, target))
    before, memory = cpu_seconds(process.pid), []
    wrk = subprocess.Popen(["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", script, f"http://127.0.0.1:{port}/"],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    timer = threading.Timer(seconds * 0.8, lambda: memory.append(memory_kib(process.pid)))
    timer.start()
    out, _ = wrk.communicate()
    timer.join()
    found = re.search(r"result (.*)", out)
    if not found:
        fail(f"wrk: {out}")
    requests, micros, errors, p50, p99 = map(int, found.group(1).split())
    if errors or not requests:
        raise Failed(f"{errors} errors in {requests} calls")
    cpu = (cpu_seconds(process.pid) - before) / requests * 1e6
    return {"calls": requests, "cpu_us": cpu, "per_second": requests / (micros / 1e6), "p50_us": p50, "p99_us": p99, "memory_kib": memory[0]}


def h2_load(stage, process, connections, streams, calls):
    """Callers that speak HTTP/2 with prior knowledge."""
    before = cpu_seconds(process.pid)
    out = subprocess.run(["taskset", "-c", "1", "h2load", "-t1", f"-n{calls}", f"-c{connections}", f"-m{streams}", "-H", ":method: DELETE",
                          "-H", f"authorization: Bearer {stage.tokens[0]}", f"http://127.0.0.1:{process.h2_port}{path()}"],
                         capture_output=True, text=True).stdout
    right = re.search(r"status codes: (\d+) 2xx", out)
    if not right or int(right.group(1)) != calls:
        raise Failed(f"h2load: {right.group(1) if right else 'none'} of {calls} calls went well")
    rate = float(re.search(r"([\d.]+) req/s", out).group(1))
    return {"cpu_us": (cpu_seconds(process.pid) - before) / calls * 1e6, "per_second": rate}


def fixed_rate(stage, port, connections, rate, seconds):
    """Latency in µs from the time a call was due, whether or not it could be sent then."""
    known = stage.write("tokens", "\n".join(stage.tokens) + "\n")
    out = subprocess.run(["taskset", "-c", "1", stage.fixed_rate, f"127.0.0.1:{port}", path(), known, str(connections), str(rate), str(seconds)],
                         capture_output=True, text=True)
    if out.returncode:
        raise Failed(f"fixed_rate: {out.stderr}")
    return json.loads(out.stdout)


def start_to_answer(stage, subject):
    """Milliseconds from starting the process to the first answered call, its connection to the
    upstream included."""
    began = time.perf_counter()
    process, port = subject.start(stage)
    data = request(stage.tokens[0])
    while True:
        try:
            status, _ = ask(port, data)
            if status == 200:
                break
        except OSError:
            pass
        if time.perf_counter() - began > 30:
            fail(f"{subject.name} does not answer")
        time.sleep(0.0005)
    return process, port, (time.perf_counter() - process.began) * 1e3
