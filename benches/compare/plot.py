"""The plot: CPU time of a call, each round a dot, the median a bar."""

import statistics


def draw(found):
    subjects = [(name, [r["cpu_us"] for r in rounds]) for name, rounds in found["main"].items()]
    most = max(max(values) for _, values in subjects)
    step = next(s for s in (5, 10, 20, 50, 100) if most / s <= 8)
    end = (int(most / step) + 1) * step
    left, width, row = 210, 480, 34
    height = len(subjects) * row
    x = lambda value: left + value / end * width
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 40} {height + 84}" font-family="sans-serif" font-size="13" role="img">',
        "<title>CPU time of a call</title>",
        f'<rect width="100%" height="100%" fill="#fff"/><text x="12" y="22" font-size="15" fill="#222">CPU µs a call at 64 connections (less is better)</text>',
    ]
    for tick in range(0, end + 1, step):
        out.append(f'<path d="M{x(tick):.1f} 36V{height + 40}" stroke="#ddd"/><text x="{x(tick):.1f}" y="{height + 56}" text-anchor="middle" fill="#555">{tick}</text>')
    for number, (name, values) in enumerate(subjects):
        y, median = 40 + number * row, statistics.median(values)
        color = "#2a6f97" if name.startswith("gateway") else "#9aa5ad"
        out.append(f'<text x="{left - 8}" y="{y + 18}" text-anchor="end" fill="#222">{name}</text>')
        out.append(f'<rect x="{left}" y="{y + 4}" width="{x(median) - left:.1f}" height="20" fill="{color}"/>')
        out += [f'<circle cx="{x(value):.1f}" cy="{y + 14}" r="2.5" fill="#222" fill-opacity="0.55"/>' for value in values]
        out.append(f'<text x="{x(max(values)) + 6:.1f}" y="{y + 18}" fill="#222">{median:.1f}</text>')
    out.append(f'<text x="12" y="{height + 76}" font-size="11" fill="#555">bars: medians of {max(len(values) for _, values in subjects)} interleaved rounds of {found["seconds"]} s; dots: rounds; {found["machine"]}, {found["at"][:10]}</text>')
    return "\n".join(out) + "\n</svg>\n"
