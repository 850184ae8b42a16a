"""Draws docs/bytes-against-perplexity.svg from points.json. Needs no packages.

    python3 benches/frontier/plot.py

A series has its points in points.json or in a file of bench results beside it. Both axes are
logarithmic.
"""

import json
import math
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE / "../../docs/bytes-against-perplexity.svg"
WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 736, 46, 402
BYTES = (30e3, 80e6)
PERPLEXITY = (72.0, 600.0)
BYTE_TICKS = [(50e3, "50 kB"), (1e5, "100 kB"), (1e6, "1 MB"), (1e7, "10 MB"), (4e7, "40 MB")]
PERPLEXITY_TICKS = [80, 100, 120, 150, 200, 250, 300, 400, 500]


def scale(value, limits, start, end):
    low, high = (math.log(limit) for limit in limits)
    return start + (end - start) * (math.log(value) - low) / (high - low)


def place(point):
    """The pixel of a point, or None outside the picture."""
    inside = BYTES[0] <= point["bytes"] <= BYTES[1] and PERPLEXITY[0] <= point["perplexity"] <= PERPLEXITY[1]
    return (scale(point["bytes"], BYTES, LEFT, RIGHT), scale(point["perplexity"], PERPLEXITY, BOTTOM, TOP)) if inside else None


def text(x, y, words, **attributes):
    rest = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{rest}>{words}</text>'


def axes():
    for value, label in BYTE_TICKS:
        x = scale(value, BYTES, LEFT, RIGHT)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{BOTTOM}" stroke="#e4e7eb"/>'
        yield text(x, BOTTOM + 20, label, text_anchor="middle")
    for value in PERPLEXITY_TICKS:
        y = scale(value, PERPLEXITY, BOTTOM, TOP)
        yield f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e7eb"/>'
        yield text(LEFT - 8, y + 4, value, text_anchor="end")
    yield text((LEFT + RIGHT) / 2, BOTTOM + 44, "bytes of weights", text_anchor="middle")
    middle = (TOP + BOTTOM) / 2
    yield f'<text transform="translate(20 {middle:.1f}) rotate(-90)" text-anchor="middle">valid perplexity</text>'


def drawn(series, index):
    color = series["color"]
    points = json.loads((HERE / series["file"]).read_text()) if "file" in series else series["points"]
    points = [(place(point), point) for point in sorted(points, key=lambda point: point["bytes"])]
    points = [(at, point) for at, point in points if at]
    if series.get("line"):
        path = " ".join(f"{x:.1f},{y:.1f}" for (x, y), _ in points)
        yield f'<polyline fill="none" stroke="{color}" points="{path}"/>'
    for (x, y), point in points:
        title = f'{point["bytes"]:,} bytes: {point["perplexity"]:.2f}. {point.get("source", "")}'.rstrip(". ")
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{color}"><title>{title}</title></circle>'
        if "label" in point:
            end = x > (LEFT + RIGHT) / 2
            label = f'{point["label"]} {point["perplexity"]:.1f}'
            yield text(x - 9 if end else x + 9, y - 7, label, text_anchor="end" if end else "start")
    y = TOP + 16 + 19 * index
    yield f'<circle cx="{RIGHT - 330}" cy="{y - 4:.1f}" r="4.5" fill="{color}"/>'
    yield text(RIGHT - 318, y, series["name"])


def main():
    plan = json.loads((HERE / "points.json").read_text())
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' font-family="sans-serif" font-size="13" fill="#1b1f24">',
        f'<title>{plan["title"]}</title>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(LEFT, 26, f'{plan["title"]} (lower left is better)', font_size=15, font_weight="bold"),
        *axes(),
    ]
    for index, series in enumerate(plan["series"]):
        lines.extend(drawn(series, index))
    OUT.write_text("\n".join([*lines, "</svg>", ""]))


if __name__ == "__main__":
    main()
