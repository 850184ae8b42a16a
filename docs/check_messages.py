#!/usr/bin/env python3
"""Checks that the messages that troubleshooting.md quotes are in the code, in both languages.

    python3 docs/check_messages.py

A message is the code that a row of a table begins with; `...` stands for a name or a number. Each
stretch between two of them must be in one string of the crates' sources.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["docs/troubleshooting.md", "docs/ja/troubleshooting.md"]


def sources():
    """The code in one line, so that a string that is continued on the next line is one string."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("crates/*/src/**/*.rs")))
    text = re.sub(r"\\\n\s*", "", text).replace('\\"', '"')
    return " ".join(text.split())


def stretches(message):
    """The fixed parts of a message, without what the printer puts before it."""
    message = re.sub(r"^(failed|target missed|warning|error): ", "", message)
    parts = (part.strip(" ,:;.%()") for part in message.split("..."))
    return [part for part in parts if len(part) > 1]


def main():
    code = sources()
    pages = {page: re.findall(r"^\| `([^`]+)` \|", (ROOT / page).read_text(encoding="utf-8"), re.M) for page in PAGES}
    faults = []
    for page, messages in pages.items():
        for message in messages:
            missing = [part for part in stretches(message) if part not in code]
            faults += [f"{page}: no message of the code has {part!r} (in {message!r})" for part in missing]
    english, japanese = (pages[page] for page in PAGES)
    faults += [f"{PAGES[1]} lacks {message!r}" for message in english if message not in japanese]
    faults += [f"{PAGES[0]} lacks {message!r}" for message in japanese if message not in english]
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    print(f"{len(english)} messages, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
