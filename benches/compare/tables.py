"""The tables: what is run for each, and how it is printed."""

import statistics
import sys
import time

from . import figures
from .checks import still_right
from .stage import SIZES, Failed, path


def median(rounds):
    return {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}


def spread(rounds, name):
    values = [found[name] for found in rounds]
    return f"{min(values):.1f} to {max(values):.1f}"


def best_peer(raw, figure, best=min):
    """The peer that is best by its median of `figure`."""
    peers = {name: median(rounds)[figure] for name, rounds in raw.items() if rounds and not name.startswith(("gateway", "direct"))}
    return best(peers, key=peers.get, default=None)


def ratios(raw, name, other, figure):
    """Of each round, so that what else the machine does falls on both; without those in which one failed."""
    mine, theirs = ({found["round"]: found for found in raw.get(who) or []} for who in (name, other))
    return [mine[number][figure] / theirs[number][figure] for number in mine if number in theirs]


def markdown(title, columns, rows):
    """A table to paste into docs/performance.md."""
    lines = [f"**{title}**", "", "| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(rounds, text):
    return text.format(**median(rounds)) if rounds else "failed"


def mb(kib):
    return f"{kib * 1.024 / 1000:.1f}"


class Bench:
    """What is run for each table. `main` takes three times the rounds that were asked for, `latency` those;
    the others fewer and shorter ones, so that all of it takes some half an hour."""

    def __init__(self, stage, subjects, args):
        self.stage, self.subjects, self.args = stage, subjects, args
        self.few = min(3, args.rounds)
        self.short = min(2, args.seconds)

    def interleaved(self, points, rounds=None, subjects=None, warm=None, beside=None, **how):
        """Each of `points`, a `measure(process, port)` by name, in rounds, all subjects in turn: raw
        figures by point and subject. All of them are up the whole time; those whose turn it is not
        are idle. One that fails at a point has no figures there, and that is told. With `warm`, one
        such by point, each subject has that before the rounds of a point; `beside`, a `measure()` by
        name, takes its turn, too."""
        up = {s.name: s.start(self.stage, **how) for s in subjects or self.subjects}
        for name, (process, port) in up.items():
            still_right(self.stage, name, port)
            figures.load(self.stage, process, port, 64, 1)
        raw = {point: {name: [] for name in [*(beside or {}), *up]} for point in points}

        def turn(point, measure):
            """One turn of all subjects: figures by name."""
            found = {name: take() for name, take in (beside or {}).items()}
            for name, (process, port) in up.items():
                try:
                    found[name] = measure(process, port)
                except Failed as why:
                    print(f"{name}, {point}: {why}", file=sys.stderr)
            return found

        for point, measure in points.items():
            if warm:
                turn(point, warm[point])
            for number in range(rounds or self.args.rounds):
                for name, found in turn(point, measure).items():
                    raw[point][name].append(found | {"round": number})
        for name, (process, port) in up.items():
            still_right(self.stage, name, port)
            self.stage.end(process)
        return raw

    def load(self, connections, target=path(), seconds=None):
        # So many have their connections first after a second.
        seconds = seconds or (max(3, self.short) if connections >= 1000 and not self.args.quick else self.short)
        return lambda process, port: figures.load(self.stage, process, port, connections, seconds, target)

    def main(self):
        # The steadiest figures, and the main ones: more rounds than of anything else.
        rounds = 1 if self.args.quick else 3 * self.args.rounds
        raw = self.interleaved({"64": self.load(64, seconds=self.args.seconds)}, rounds)["64"]
        return raw, self.main_table(raw, rounds)

    def main_table(self, raw, count):
        """A ratio is that to the best peer in the same round; of all rounds, the median, and of CPU the
        least and the most."""
        raw = {name: rounds for name, rounds in raw.items() if rounds}
        cheapest, fastest = best_peer(raw, "cpu_us"), best_peer(raw, "per_second", max)
        text = lambda found: f"{statistics.median(found):.2f}" if found else ""
        rows = []
        for name, rounds in raw.items():
            m = median(rounds)
            cpu, speed = ratios(raw, name, cheapest, "cpu_us"), ratios(raw, name, fastest, "per_second")
            of_rounds = f"{min(cpu):.2f} to {max(cpu):.2f}" if cpu else ""
            rows.append([name, f"{m['cpu_us']:.1f}", spread(rounds, "cpu_us"), text(cpu), of_rounds, f"{m['per_second']:,.0f}", text(speed), f"{m['p50_us']:,.0f}", f"{m['p99_us']:,.0f}"])
        title = f"64 connections, {count} interleaved rounds of {self.args.seconds} s, one CPU, medians; ratios are of the same round"
        return markdown(title, ["", "CPU µs a call", "least to most", "× best peer", "least to most", "calls/s", "× best peer", "p50 µs", "p99 µs"], rows)

    def latency(self):
        args = self.args
        take = lambda port: figures.fixed_rate(self.stage, port, 16, args.rate, args.seconds)
        direct = "direct, plaintext"
        beside = {direct: lambda: take(self.stage.direct_port)}
        raw = self.interleaved({"": lambda process, port: take(port)}, beside=beside)[""]
        base = median(raw[direct])
        rows = []
        for name, rounds in raw.items():
            if not rounds:
                continue
            m = median(rounds)
            added = [f"{m[q] - base[q]:,.0f}" if name != direct else "" for q in ("p50", "p99")]
            rows.append([name, f"{m['p50']:,.0f}", added[0], f"{m['p99']:,.0f}", added[1], spread(rounds, "p99")])
        title = f"Latency in µs at {args.rate:,} calls a second over 16 connections, from when a call was due, {args.rounds} rounds of {args.seconds} s, medians"
        return raw, markdown(title, ["", "p50", "added", "p99", "added", "p99, least to most"], rows)

    def memory(self):
        raw, rows = {}, []
        for subject in self.subjects:
            raw[subject.name] = found = {}
            process, port = subject.start(self.stage)
            still_right(self.stage, subject.name, port)
            time.sleep(1)
            found["idle"] = figures.memory_kib(process.pid)
            found["idle, PSS"] = figures.pss_kib(process.pid)
            for connections in (64, 1000):
                try:
                    taken = []
                    for _ in range(self.few):
                        taken.append(self.load(connections)(process, port)["memory_kib"])
                        # Calls of callers that left are carried out all the same.
                        time.sleep(1)
                    found[str(connections)] = statistics.median(taken)
                except Failed as why:
                    print(f"{subject.name}, {connections}: {why}", file=sys.stderr)
            self.stage.end(process)
            rows.append([subject.name, *(mb(found[point]) if point in found else "failed" for point in ("idle", "idle, PSS", "64", "1000"))])
        title = f"Memory in MB with 1,000 tenants, one worker: PSS of all processes as if nothing else had the same files mapped, which the other load and upstream do; under load the median of {self.few}"
        return raw, markdown(title, ["", "idle", "idle, PSS as it is", "with 64 connections", "with 1,000"], rows)

    def start(self):
        raw = {s.name: [] for s in self.subjects}
        for _ in range(max(5, self.args.rounds) if not self.args.quick else 1):
            for subject in self.subjects:
                process, port, took = figures.start_to_answer(self.stage, subject)
                raw[subject.name].append(took)
                self.stage.end(process)
        rows = [[name, f"{statistics.median(times):.0f}", f"{min(times):.0f} to {max(times):.0f}"] for name, times in raw.items()]
        return raw, markdown("Start to the first answered call in ms, 1,000 tenants, medians", ["", "ms", "least to most"], rows)

    def idle(self):
        seconds, raw = 2 if self.args.quick else 20, {}
        up = {s.name: s.start(self.stage) for s in self.subjects}
        for name, (process, port) in up.items():
            still_right(self.stage, name, port)
        time.sleep(3)
        seen = lambda process: (figures.wake_ups(process.pid), figures.cpu_seconds(process.pid))
        before = {name: seen(process) for name, (process, _) in up.items()}
        time.sleep(seconds)
        for name, (process, _) in up.items():
            woken, cpu = (after - was for after, was in zip(seen(process), before[name]))
            raw[name] = {"wake_ups": woken, "cpu_ms": cpu * 1e3}
            self.stage.end(process)
        rows = [[name, found["wake_ups"], f"{found['cpu_ms']:.0f}"] for name, found in raw.items()]
        return raw, markdown(f"Without callers for {seconds} s, one worker", ["", "wake-ups", "CPU ms"], rows)

    def tenants(self):
        rows = []
        counts = [10, 1000] if self.args.quick else [10, 1000, 100_000]
        sets = {count: self.stage.more_tokens(count) for count in counts}
        subjects = [s for s in self.subjects if s.name in ("gateway, relaxed", "nginx", "HAProxy")]
        up = {(s.name, count): s.start(self.stage, tokens=tokens) for s in subjects for count, tokens in sets.items()}
        raw = {s.name: {str(count): [] for count in counts} for s in subjects}
        # The first round only warms what the others are to find.
        for number in range(self.few + 1):
            for (name, count), (process, port) in up.items():
                found = figures.load(self.stage, process, port, 64, self.short, tokens=sets[count])
                if number:
                    raw[name][str(count)].append(found | {"round": number})
        for process, _ in up.values():
            self.stage.end(process)
        for name, rounds in raw.items():
            cpu = [median(rounds[str(count)])["cpu_us"] for count in counts]
            grown = ratios(rounds, str(counts[-1]), str(counts[0]), "cpu_us")
            rows.append([name, *(f"{value:.1f}" for value in cpu), f"{statistics.median(grown):.2f}", f"{min(grown):.2f} to {max(grown):.2f}", mb(median(rounds[str(counts[-1])])["memory_kib"])])
        columns = ["", *(f"{count:,}" for count in counts), "most ÷ fewest", "least to most", "MB with the most"]
        return raw, markdown(f"CPU µs a call by number of tenants, every token in turn, {self.few} interleaved rounds, medians (without Pingora and Envoy, which are far dearer)", columns, rows)

    def sizes(self):
        sizes = SIZES[::2] if self.args.quick else SIZES
        points = {str(size): self.load(64, path(f"size-{size}") if size > 16 else path()) for size in sizes}
        raw = self.interleaved(points, self.few)
        rows = [[s.name, *(cell(raw[point][s.name], "{cpu_us:.0f}") for point in points)] for s in self.subjects]
        columns = ["", *(f"{size >> 10} KiB" if size >= 1024 else f"{size} B" for size in sizes)]
        return raw, markdown("CPU µs a call by size of the upstream's answer, 64 connections, medians (the gateway reads a body whole before it answers, the peers stream)", columns, rows)

    def h2(self):
        calls = 5_000 if self.args.quick else 60_000
        subjects = [s for s in self.subjects if s.h2]
        measure = lambda process, port: figures.h2_load(self.stage, process, 16, 16, calls)
        raw = self.interleaved({"": measure}, self.few, subjects)[""]
        rows = [[name, cell(r, "{cpu_us:.1f}"), cell(r, "{per_second:,.0f}")] for name, r in raw.items()]
        return raw, markdown("Callers that speak HTTP/2 (prior knowledge), 16 connections of 16 streams, one token, medians", ["", "CPU µs a call", "calls/s"], rows)

    def scaling(self):
        connections = [1, 64] if self.args.quick else [1, 8, 64, 256, 1024]
        points = {str(many): self.load(many) for many in connections}
        # Connections, to the upstream too, are not what is measured: they are there before, where a subject keeps them.
        warm = {str(many): self.load(many, seconds=1) for many in connections}
        raw = {str(workers): self.interleaved(points, self.few, warm=warm, workers=workers) for workers in (1, 2)}
        rows = [[s.name, workers, *(cell(raw[workers][point][s.name], "{cpu_us:.1f} / {per_second:,.0f}") for point in points)] for s in self.subjects for workers in raw]
        columns = ["", "workers", *(f"{many:,}" for many in connections)]
        return raw, markdown("CPU µs a call / calls a second by connections; with 2 workers load and upstream share the CPUs with them", columns, rows)


TABLES = {
    "main": Bench.main,
    "latency": Bench.latency,
    "memory": Bench.memory,
    "start": Bench.start,
    "idle": Bench.idle,
    "tenants": Bench.tenants,
    "sizes": Bench.sizes,
    "h2": Bench.h2,
    "scaling": Bench.scaling,
}
