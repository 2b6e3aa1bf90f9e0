"""What was aimed at, and what a run found of it."""

import statistics

from .tables import best_peer, markdown, mb, median, ratios

RELAXED, STRICT = "gateway, relaxed", "gateway, strict"


def goals(found):
    """The goals as a table; what this run has no figures for is said not to be measured."""
    rows = []

    def unless_missing(goal, measure):
        try:
            measure(goal)
        except (LookupError, TypeError, ValueError, statistics.StatisticsError):
            # A table, a subject or a point of them that was left out, or failed.
            rows.append([goal, "not measured", ""])

    def add(goal, bound, value, text, most=True):
        met = value <= bound if most else value >= bound
        rows.append([goal, text, "yes" if met else "no"])

    def times_best(name, figure, best, bound, most=True):
        def measure(goal):
            other = best_peer(found["main"], figure, best)
            times = ratios(found["main"], name, other, figure)
            value = statistics.median(times)
            add(goal, bound, value, f"{value:.2f} ({min(times):.2f} to {max(times):.2f}) × {other}", most)
        return measure

    def latency(goal):
        rounds = found["latency"]
        best = best_peer(rounds, "p50")
        mine, peer = (median(rounds[name])["p50"] - median(rounds["direct, plaintext"])["p50"] for name in (RELAXED, best))
        add(goal, peer, mine, f"{mine:.0f} µs, {best} {peer:.0f}")

    def idle_beside_nginx(goal):
        mine, nginx = (found["memory"][name]["idle"] for name in (RELAXED, "nginx"))
        add(goal, 0.75, mine / nginx, f"{mine / nginx:.2f}: {mb(mine)} MB, nginx {mb(nginx)}")

    def smallest(point, peers=lambda name: not name.startswith("gateway")):
        def measure(goal):
            memory = found["memory"]
            peer, name = min((kib[point], name) for name, kib in memory.items() if peers(name) and point in kib)
            mine = memory[RELAXED][point]
            add(goal, peer, mine, f"{mb(mine)} MB, {name} {mb(peer)}")
        return measure

    def start(goal):
        times = {name: statistics.median(taken) for name, taken in found["start"].items()}
        peer, name = min((taken, name) for name, taken in times.items() if not name.startswith("gateway"))
        add(goal, 20, times[RELAXED], f"{times[RELAXED]:.0f} ms, {name} {peer:.0f}")

    def tenants(goal):
        grown = {name: statistics.median(ratios(rounds, "100000", "10", "cpu_us")) for name, rounds in found["tenants"].items()}
        others = ", ".join(f"{name} {value:.2f}" for name, value in grown.items() if name != RELAXED)
        add(goal, 1.05, grown[RELAXED], f"{grown[RELAXED]:.2f}; {others}")

    for goal, measure in [
        ("CPU a call, relaxed ≤ 0.80 × the best peer", times_best(RELAXED, "cpu_us", min, 0.80)),
        ("CPU a call, strict, two synced records ≤ 1.0 × the best peer, which syncs none", times_best(STRICT, "cpu_us", min, 1.0)),
        ("calls a second, relaxed ≥ 1.15 × the best peer", times_best(RELAXED, "per_second", max, 1.15, most=False)),
        ("added latency, p50 ≤ the best peer", latency),
        ("memory idle ≤ 0.75 × nginx", idle_beside_nginx),
        ("memory idle ≤ Pingora", smallest("idle", lambda name: name == "Pingora")),
        ("memory under 64 connections ≤ the smallest peer", smallest("64")),
        ("memory under 1,000 connections ≤ the smallest peer", smallest("1000")),
        ("start to first answered call ≤ 20 ms", start),
        ("CPU a call, 100,000 tenants ÷ 10 ≤ 1.05", tenants),
    ]:
        unless_missing(goal, measure)
    return markdown("What was aimed at", ["goal", "found", "met"], rows)
