"""Flags in a configuration: one recipe with all stages, of which flags choose some.

    python flags.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import resnet_bk

recipe = {
    "seed": 1,
    "corpus": {"data_limit": 10_000},
    "model": {"preset": "tiny", "vocab_size": 500, "quantization_bits": 8, "prune_threshold": 0.05},
    "schedule": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-2},
    "stage": [{"kind": "train"}, {"kind": "qat"}, {"kind": "prune"}, {"kind": "distill", "student": {"n_layers": 1}}],
}

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
FLAGS = ["use_quantization", "use_pruning", "use_distillation"]
kinds = {}
for chosen in [[], ["use_quantization"], ["use_quantization", "use_pruning"], FLAGS]:
    flags = {f"model.{flag}": flag in chosen for flag in FLAGS}
    run = resnet_bk.compress(recipe, "embedded", folder / str(len(chosen)), set=flags)
    kinds[len(chosen)] = [stage["kind"] for stage in run.summary["stages"]]
    print(", ".join(chosen) or "no flag", "->", kinds[len(chosen)], run.model.bytes_total, "bytes")

assert kinds == {0: ["train"], 1: ["train", "qat"], 2: ["train", "qat", "prune"], 3: ["train", "qat", "prune", "distill"]}
