"""What was aimed at, and what a run found of it."""

import statistics

from .tables import best_peer, markdown, mb, median, ratios

RELAXED, STRICT = "gateway, relaxed", "gateway, strict"


def goals(found):
    """The goals as a table; those for which this run has no figures are left out."""
    rows = []

    def add(goal, bound, value, text, most=True):
        met = value <= bound if most else value >= bound
        rows.append([goal, text, "yes" if met else "no"])

    def times_best(name, figure, best, goal, bound, most=True):
        other = best_peer(found["main"], figure, best)
        found_ratios = ratios(found["main"], name, other, figure)
        if found_ratios:
            value = statistics.median(found_ratios)
            add(goal, bound, value, f"{value:.2f} ({min(found_ratios):.2f} to {max(found_ratios):.2f}) × {other}", most)

    if "main" in found:
        times_best(RELAXED, "cpu_us", min, "CPU a call, relaxed ≤ 0.80 × the best peer", 0.80)
        times_best(STRICT, "cpu_us", min, "CPU a call, strict, two synced records ≤ 1.0 × the best peer, which syncs none", 1.0)
        times_best(RELAXED, "per_second", max, "calls a second, relaxed ≥ 1.15 × the best peer", 1.15, most=False)
    if latency := found.get("latency"):
        base = median(latency["direct, plaintext"])["p50"]
        mine, peer = (median(latency[name])["p50"] - base for name in (RELAXED, best_peer(latency, "p50")))
        add("added latency, p50 ≤ the best peer", peer, mine, f"{mine:.0f} µs, {best_peer(latency, 'p50')} {peer:.0f}")
    if memory := found.get("memory"):
        smallest = lambda point: min((kib[point], name) for name, kib in memory.items() if not name.startswith("gateway") and point in kib)
        mine = memory[RELAXED]
        add("memory idle ≤ 0.75 × nginx", 0.75, mine["idle"] / memory["nginx"]["idle"], f"{mine['idle'] / memory['nginx']['idle']:.2f}: {mb(mine['idle'])} MB, nginx {mb(memory['nginx']['idle'])}")
        add("memory idle ≤ Pingora", memory["Pingora"]["idle"], mine["idle"], f"{mb(mine['idle'])} MB, Pingora {mb(memory['Pingora']['idle'])}")
        for point in ("64", "1000"):
            peer, name = smallest(point)
            add(f"memory under {int(point):,} connections ≤ the smallest peer", peer, mine[point], f"{mb(mine[point])} MB, {name} {mb(peer)}")
    if start := found.get("start"):
        mine = statistics.median(start[RELAXED])
        peer, name = min((statistics.median(times), name) for name, times in start.items() if not name.startswith("gateway"))
        add("start to first answered call ≤ 20 ms", 20, mine, f"{mine:.0f} ms, {name} {peer:.0f}")
    if tenants := found.get("tenants"):
        grown = {name: statistics.median(ratios(rounds, "100000", "10", "cpu_us")) for name, rounds in tenants.items() if "100000" in rounds}
        if RELAXED in grown:
            others = ", ".join(f"{name} {value:.2f}" for name, value in grown.items() if name != RELAXED)
            add("CPU a call, 100,000 tenants ÷ 10 ≤ 1.05", 1.05, grown[RELAXED], f"{grown[RELAXED]:.2f}; {others}")
    return markdown("What was aimed at", ["goal", "found", "met"], rows)
