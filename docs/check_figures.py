#!/usr/bin/env python3
"""Checks that the figures in the documents are those of figures.toml, in both languages.

    python3 docs/check_figures.py [--inspect FILE] [--draw]

FILE is the output of `resnet-bk inspect demo --json`; without it, sums of parts are not checked.
`--draw` draws the pictures again first. Needs Python 3.11 and no package.

- After a figure stands its name in a comment: `232,837<!-- demo.file -->`. The text before the
  comment must be the value.
- A figure is quoted from the document that says how it was measured, and must be in it.
- A figure of five characters and more does not stand there without its comment.
- Twins, a document in English and its Japanese one, have the same names. The documents of
  `JAPANESE` have no twin with marks.
- The pictures are those that pictures/draw.py makes of figures.toml.
"""

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path

from pictures.draw import pictures

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
TWINS = ["concepts.md", "quick-reference.md", "troubleshooting.md"]
JAPANESE = [ROOT / "README.ja.md", DOCS / "ja/guide.md"]
MARK = re.compile(r"<!-- ([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+) -->")
NUMBER = re.compile(r"[0-9][0-9,.]*$")
BARE = re.compile(r"(?<![0-9,.])[0-9][0-9,.]*[0-9](?![0-9,.]|<!--)")


def figures(table=None, prefix=""):
    """All figures of figures.toml by name."""
    if table is None:
        table = tomllib.loads((DOCS / "figures.toml").read_text(encoding="utf-8"))
    found = {}
    for key, entry in table.items():
        if "value" in entry:
            found[prefix + key] = entry
        else:
            found |= figures(entry, f"{prefix}{key}.")
    return found


def words(text):
    """A text with single spaces, so that where its lines break does not matter."""
    return " ".join(text.split())


def check_sources(known, inspected):
    """Figures that are not in their source, or not the sum of their parts."""
    texts = {}
    for name, figure in known.items():
        if "parts" in figure:
            if inspected is None:
                continue
            entries = inspected["size_breakdown"]["entries"]
            total = sum(entry["bytes"] for entry in entries if entry["part"] in figure["parts"])
            if f"{total:,}" != figure["value"]:
                yield f"figures.toml: {name} is {figure['value']}, but `inspect` says {total:,}"
            continue
        source = figure["source"]
        if source not in texts:
            texts[source] = words((ROOT / source).read_text(encoding="utf-8"))
        quote = words(figure["quote"].replace("{}", figure["value"]))
        if quote not in texts[source]:
            yield f"figures.toml: {name}: {source} has no text {quote!r}; change the value, or the quote"


def check_document(path, known):
    """Marks of a document whose figure is unknown or another one, and figures without a mark."""
    text = path.read_text(encoding="utf-8")

    def place_of(before):
        return f"{path.relative_to(ROOT)}:{before.count(chr(10)) + 1}"

    values = {figure["value"]: name for name, figure in known.items() if len(figure["value"]) >= 5}
    for bare in BARE.finditer(text):
        if bare[0] in values:
            yield f"{place_of(text[: bare.start()])}: {bare[0]} needs a mark: <!-- {values[bare[0]]} -->"
    for mark in MARK.finditer(text):
        before = text[: mark.start()]
        place = place_of(before)
        name = mark[1]
        number = NUMBER.search(before)
        if name not in known:
            yield f"{place}: there is no figure {name} in figures.toml"
        elif not number or number[0] != known[name]["value"]:
            found = number[0] if number else before[-12:]
            yield f"{place}: {name} is {known[name]['value']}, but the document has {found!r}"


def names(path):
    return set(MARK.findall(path.read_text(encoding="utf-8")))


def check_twins():
    """Twins that do not have the same figures."""
    for name in TWINS:
        english, japanese = names(DOCS / name), names(DOCS / "ja" / name)
        for figure in sorted(english ^ japanese):
            has, lacks = (name, f"ja/{name}") if figure in english else (f"ja/{name}", name)
            yield f"docs/{lacks}: {figure} is missing, which docs/{has} has"


def check_pictures(known):
    """Pictures that are not what draw.py makes."""
    for path, svg in pictures(known):
        if not path.is_file() or path.read_text(encoding="utf-8") != svg:
            yield f"{path.relative_to(ROOT)} is not up to date: run `python3 docs/check_figures.py --draw`"


def main():
    parser = argparse.ArgumentParser(description="Checks the figures in the documents.")
    parser.add_argument("--inspect", metavar="FILE", help="output of `resnet-bk inspect demo --json`")
    parser.add_argument("--draw", action="store_true", help="draw the pictures again first")
    arguments = parser.parse_args()
    inspected = json.loads(Path(arguments.inspect).read_text()) if arguments.inspect else None
    known = figures()
    if arguments.draw:
        for path, svg in pictures(known):
            path.write_text(svg, encoding="utf-8")
    documents = [DOCS / name for name in TWINS] + [DOCS / "ja" / name for name in TWINS] + JAPANESE
    faults = list(check_sources(known, inspected))
    for path in documents:
        faults += check_document(path, known)
    faults += check_twins()
    faults += check_pictures(known)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    marks = sum(len(MARK.findall(path.read_text(encoding="utf-8"))) for path in documents)
    print(f"{len(known)} figures, {marks} marks in {len(documents)} documents, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
