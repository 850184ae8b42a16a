"""The whole pipeline in one call: train, prune, quantize, pack, measure.

    python pipeline.py [FOLDER]
"""

import sys
import tempfile

import resnet_bk
from resnet_bk.tracking import print_epochs

# A few seconds. The recipe "demo" takes minutes and makes a better model.
RECIPE = """
seed = 1
[corpus]
data_limit = 30_000
[model]
preset = "memory"
vocab_size = 1000
d_model = 32
heads = 32
n_layers = 1
n_seq = 32
[schedule]
epochs = 2
batch_size = 16
learning_rate = 1e-2
[[stage]]
kind = "train"
[[stage]]
kind = "prune"
magnitude.sparsity = 0.2
[[stage]]
kind = "qat"
"""

folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
run = resnet_bk.compress(RECIPE, "embedded", folder, callback=print_epochs)

for stage in run.summary["stages"]:
    print(f"{stage['kind']:<6} {stage['weights_bytes']:>8} bytes, perplexity {stage['valid_perplexity']:.1f}")
print("suggestions:", [word.word for word in run.model.suggest("I don't know", k=3)])
print("generated:  ", "I want" + "".join(run.model.generate("I want", max_tokens=8, seed=7)))

artifact = run.summary["artifact"]
assert artifact["bytes_weights"] * 3 < run.summary["stages"][0]["weights_bytes"]
assert sum(entry["bytes"] for entry in run.model.size_breakdown()) == artifact["bytes_total"]
