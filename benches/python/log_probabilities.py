"""How long `log_probabilities` takes, against `resnet-bk eval` on the same text.

    python benches/python/log_probabilities.py target/release/resnet-bk MODEL.rbk TEXT [ROUNDS]

The first 100,000 tokens of the text. The command and the calls alternate; figures are medians:

    eval       the command, from its start to its end
    process    a new Python that imports the package, reads the model and the text, and makes the call
    call       the call alone, in a process that has the model
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import resnet_bk

TOKENS = 100_000
PROGRAM = """
import resnet_bk, sys
model, text = sys.argv[1:]
resnet_bk.LanguageModel(model).log_probabilities(open(text, encoding="utf-8").read())
"""

command, path, source, *rest = sys.argv[1:]
rounds = int(rest[0]) if rest else 7
model = resnet_bk.LanguageModel(path)
lines, tokens = [], 0
with open(source, encoding="utf-8") as file:
    for line in file:
        lines.append(line)
        tokens += len(model.tokens(line))
        if tokens >= TOKENS:
            break
text = "".join(lines)

with tempfile.TemporaryDirectory() as folder:
    part = str(Path(folder) / "text.txt")
    Path(part).write_text(text, encoding="utf-8")
    ways = {
        "eval": lambda: subprocess.run([command, "eval", path, "--text", part], check=True, capture_output=True),
        "process": lambda: subprocess.run([sys.executable, "-c", PROGRAM, path, part], check=True),
        "call": lambda: model.log_probabilities(text),
    }
    seconds = {name: [] for name in ways}
    for round in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if round > 0:  # The first round fills caches.
                seconds[name].append(time.perf_counter() - started)

medians = {name: statistics.median(times) for name, times in seconds.items()}
for name, median in medians.items():
    print(f"{name:<8} {median:.2f} s, {median / medians['eval']:.2f} of eval, for {tokens} tokens")
