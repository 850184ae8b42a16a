"""The pictures of docs/concepts.md and of its Japanese twin. Words are those of labels.toml.

    python3 docs/check_figures.py --draw
"""

import tomllib
from pathlib import Path

from .svg import Canvas

HERE = Path(__file__).resolve().parent
WIDTH = 680


def resolvent(words, _):
    canvas = Canvas(WIDTH, 400, words["title"])
    # The matrix; the leading block ends at row t.
    cell, left, top, size, t = 36, 24, 56, 6, 4
    canvas.text(left, 36, words["matrix"], style="bold", size=15)
    names = ["1", "2", "t−1", "t", "t+1", "T"]
    for row in range(size):
        for column in range(size):
            x, y = left + column * cell, top + row * cell
            if row == column:
                style, text = ("orange" if row == t - 1 else "blue"), f"a_{{{names[row]}}}"
            elif abs(row - column) == 1:
                style, text = "gray", "s"
            else:
                style, text = "plain", "0"
            canvas.box(x, y, cell, cell, text, style)
    canvas.rect(left, top, t * cell, t * cell, "frame")
    canvas.text(left, top + size * cell + 24, words["block"], style="muted")
    # Three steps of the recurrence.
    x0, y0, width, height, gap = 276, 108, 92, 56, 46
    canvas.text(x0, 36, words["recurrence"], style="bold", size=15)
    for index, name in enumerate(["t−1", "t", "t+1"]):
        x = x0 + index * (width + gap)
        canvas.box(x, y0, width, height, f"g_{{{name}}}, ψ_{{{name}}}", "orange" if index == 1 else "blue", 15)
        canvas.arrow([(x + width / 2, y0 + height + 52), (x + width / 2, y0 + height + 2)])
        canvas.text(x + width / 2, y0 + height + 70, f"a_{{{name}}}, u_{{{name}}}", "middle", 15)
        if index < 2:
            canvas.arrow([(x + width, y0 + height / 2), (x + width + gap - 2, y0 + height / 2)])
    canvas.text(x0, 76, words["state"], style="muted")
    canvas.text(x0 + width + gap + width / 2, y0 + height + 92, words["from_token"], "middle", style="muted")
    # What a step computes.
    canvas.text(x0, 300, words["equations"], style="bold", size=15)
    canvas.text(x0, 326, "g_{t} = 1 / (a_{t} − z − s² g_{t−1})", size=16)
    canvas.text(x0, 354, "ψ_{t} = g_{t} (u_{t} + s ψ_{t−1})", size=16)
    canvas.text(x0, 382, words["cost"], style="muted")
    return canvas


def causal(words, _):
    canvas = Canvas(WIDTH, 440, words["title"])
    tokens = ["She", "has", "been", "waiting", "for", "you"]
    width, gap, left, at = 92, 14, 29, 3

    def row(top, title, note, sees_all):
        canvas.text(left, top, title, style="bold", size=15)
        middle = [left + index * (width + gap) + width / 2 for index in range(len(tokens))]
        y, feature = top + 66, top + 22
        for index, token in enumerate(tokens):
            style = "blue" if index <= at else "orange" if index == at + 1 and sees_all else "gray" if sees_all else "plain"
            canvas.box(middle[index] - width / 2, y, width, 34, token, style, 15)
        # Above: the scan that position `at` gets from the left, and from the right.
        canvas.arrow([(middle[0], y - 4), (middle[0], feature), (middle[at] - 6, feature), (middle[at] - 6, y - 3)])
        for index in range(1, at):
            canvas.line([(middle[index], y - 4), (middle[index], feature)])
        if sees_all:
            end = [(middle[-1], y - 4), (middle[-1], feature), (middle[at] + 6, feature), (middle[at] + 6, y - 3)]
            canvas.arrow(end, "line dash")
            canvas.line([(middle[at + 1], y - 4), (middle[at + 1], feature)], "line dash")
        # Below: what it predicts.
        below = y + 58
        canvas.arrow([(middle[at], y + 36), (middle[at], below), (middle[at + 1], below), (middle[at + 1], y + 37)])
        canvas.text((middle[at] + middle[at + 1]) / 2, below + 18, words["predicts"], "middle", style="muted")
        canvas.text(left, below + 42, note)

    row(34, words["causal"], words["causal_note"], False)
    row(250, words["bidirectional"], words["bidirectional_note"], True)
    return canvas


def stages(words, figures):
    canvas = Canvas(WIDTH, 306, words["title"])
    bar_left, bar_width = 24, 470
    canvas.text(bar_left, 32, words["bytes"], style="bold", size=15)
    canvas.text(WIDTH - 24, 32, words["perplexity"], "end", style="bold", size=15)
    most = number(figures, "demo.first_bytes")
    rows = [("train", "first", "blue"), ("prune", "best", "blue"), ("qat", None, "orange"), ("int8", "int8", "gray")]
    for index, (label, name, style) in enumerate(rows):
        size = f"demo.{name}_bytes" if name else "demo.weights"
        perplexity = f"demo.{name}_perplexity" if name else "demo.perplexity"
        y = 60 + index * 62
        canvas.text(bar_left, y + 2, words[label], style="bold")
        canvas.text(bar_left + 640 - 8, y + 26, figures[perplexity]["value"], "end", 16)
        canvas.text(bar_left + 250, y + 2, words[f"{label}_note"], style="muted")
        length = bar_width * number(figures, size) / most
        canvas.rect(bar_left, y + 10, length, 22, style)
        canvas.text(bar_left + length + 8, y + 26, figures[size]["value"])
    return canvas


def file(words, figures):
    canvas = Canvas(WIDTH, 290, words["title"])
    left, width = 24, WIDTH - 48
    total = number(figures, "demo.file")
    canvas.text(left, 32, words["total"].format(figures["demo.file"]["value"]), style="bold", size=15)
    rows = [("embedding", "blue"), ("mixers", "orange"), ("experts", "gray")]
    rows += [("vocabulary", "plain"), ("small", "green"), ("other", "violet")]
    x = left
    for index, (part, style) in enumerate(rows):
        size = number(figures, f"demo.part.{part}")
        canvas.rect(x, 48, width * size / total, 40, style, rx=0)
        x += width * size / total
        y = 122 + index * 30
        canvas.rect(left, y - 13, 16, 16, style)
        canvas.text(left + 28, y, words[part])
        canvas.text(WIDTH - 114, y, figures[f"demo.part.{part}"]["value"], "end")
        canvas.text(WIDTH - 24, y, f"{100 * size / total:.1f} %", "end")
    return canvas


def windows(words, _):
    canvas = Canvas(WIDTH, 360, words["title"])
    x = left = 24
    for part, width, style in [("train", 300, "gray"), ("dev", 96, "plain"), ("valid", 130, "blue"), ("test", 106, "plain")]:
        canvas.box(x, 40, width, 38, words[part], style)
        canvas.text(x + width / 2, 26, words[f"{part}_note"], "middle", 13, "muted")
        if part == "valid":
            canvas.line([(x, 80), (left, 140)], "line dash")
            canvas.line([(x + width, 80), (WIDTH - 24, 140)], "line dash")
        x += width
    # Three windows of five tokens; a window's last target is the next one's first input.
    cell, tokens = 38, 5
    for window in range(3):
        x = left + window * (WIDTH - 48 + 19) / 3
        canvas.text(x, 162, words["window"].format(window + 1), style="bold")
        canvas.text(x, 184, words["reset"], style="muted")
        canvas.arrow([(x + cell / 2, 190), (x + cell / 2, 206)])
        for index in range(tokens):
            name = f"{window * tokens + index + 1}"
            is_first = window == index == 0
            canvas.box(x + index * cell, 208, cell, 34, name, "gray" if is_first else "blue")
            target = f"{window * tokens + index + 2}"
            canvas.arrow([(x + (index + 0.5) * cell, 244), (x + (index + 0.5) * cell, 264)])
            canvas.text(x + (index + 0.5) * cell, 282, target, "middle")
    canvas.rect(left, 300, 14, 14, "gray")
    canvas.text(left + 22, 312, words["first"])
    canvas.text(left + 190, 312, f"↓ {words['predicted']}")
    canvas.text(left, 342, words["note"], style="muted")
    return canvas


def number(figures, name):
    return int(figures[name]["value"].replace(",", ""))


def pictures(figures):
    """Path and SVG of each picture, in both languages."""
    labels = tomllib.loads((HERE / "labels.toml").read_text(encoding="utf-8"))
    for draw in (resolvent, causal, stages, file, windows):
        for language, words in labels[draw.__name__].items():
            ending = "" if language == "en" else f".{language}"
            yield HERE / f"{draw.__name__}{ending}.svg", draw(words, figures).svg()
