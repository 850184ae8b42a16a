"""Draws time and memory per token against the sequence length. Usage: plot_scaling.py FILE... --out scaling.svg

FILEs hold JSON lines of gpu_scaling.py and of `resnet-bk bench scaling --json`; needs matplotlib. Of
several ways of one length (eager, compiled) the fastest is drawn.
"""

import argparse
import json
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot, ticker

NAMES = {
    "diagonal": "diagonal resolvent block",
    "propagator": "propagator block",
    "attention": "Transformer block, fused attention (PyTorch)",
}
# Distinct without color, too.
STYLES = {
    "diagonal": {"color": "#0072b2", "marker": "s"},
    "propagator": {"color": "#d55e00", "marker": "o"},
    "attention": {"color": "#555555", "marker": "^", "linestyle": "--"},
}


def read(paths):
    """The measured records, without those that report an error."""
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line) if line.lstrip().startswith("{") else {}
            if record.get("ns_per_token") is not None:
                yield record


def series(records):
    """`{(mixer, heads, device): {length: record}}` with the fastest record of each length."""
    found = {}
    for record in records:
        key = (record["mixer"], record.get("heads"), record["device"])
        best = found.setdefault(key, {})
        length = record["length"]
        if length not in best or record["ns_per_token"] < best[length]["ns_per_token"]:
            best[length] = record
    return dict(sorted(found.items(), key=lambda item: (item[0][0] == "attention", str(item[0]))))


def label(mixer, heads, device, devices):
    text = NAMES.get(mixer, mixer) + (f", {heads} heads" if heads else "")
    return text if len(devices) == 1 else f"{text}, {device}"


def draw(found, out):
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    devices = {device for _, _, device in found}
    attention_seen = 0
    for (mixer, heads, device), points in found.items():
        style = dict(STYLES.get(mixer, {}))
        if mixer == "attention":
            style["marker"] = "^v<>"[attention_seen % 4]
            attention_seen += 1
        for panel, field, unit in zip(panels, ("ns_per_token", "bytes_per_token"), (1.0, 2.0**-10)):
            pairs = [(length, r[field] * unit) for length, r in sorted(points.items()) if r.get(field) is not None]
            if pairs:
                panel.plot(*zip(*pairs), label=label(mixer, heads, device, devices), markersize=5, **style)
    lengths = sorted({length for points in found.values() for length in points})
    for panel, title, unit in zip(panels, ("Time per token", "Memory per token"), ("nanoseconds", "KiB")):
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        for axis in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
            axis(ticker.FuncFormatter(lambda y, _: f"{y:,g}"))
        panel.set_xticks(lengths, [f"{length:,}" for length in lengths], rotation=30)
        panel.set_xlabel("sequence length in tokens")
        panel.set_ylabel(unit)
        panel.set_title(f"{title}, forward and backward")
        panel.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    if len(devices) == 1:
        figure.suptitle(f"One block, measured on {devices.pop()}", fontsize=10)
    figure.savefig(out, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("scaling.svg"))
    arguments = parser.parse_args()
    found = series(read(arguments.files))
    if not found:
        sys.exit("no measurements in these files")
    draw(found, arguments.out)


main()
