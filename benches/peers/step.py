"""Times training steps of the seed model; prints JSON. Usage: step.py plain|compile|fused-loss RUNS"""

import json
import sys
import time

import torch
from torch.nn import functional

from seed_model import BATCH, LENGTH, VOCABULARY, SeedModel


def cross_entropy(hidden, head, targets):
    return functional.cross_entropy(head(hidden), targets)


def fused_cross_entropy(hidden, head, targets):
    return functional.linear_cross_entropy(hidden, head.weight, targets, linear_bias=head.bias)


def main():
    variant, runs = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(1)
    model = SeedModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    inputs, targets = (torch.randint(VOCABULARY, (BATCH, LENGTH)) for _ in range(2))
    loss_of = fused_cross_entropy if variant == "fused-loss" else cross_entropy
    if variant == "compile":
        # The blocks loop over experts and positions: the part worth compiling is the head and its loss.
        loss_of = torch.compile(loss_of)

    def step():
        optimizer.zero_grad(set_to_none=True)
        hidden = model(inputs).reshape(-1, model.head.in_features)
        loss_of(hidden, model.head, targets.reshape(-1)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    times = []
    for run in range(runs + 2):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    times = sorted(times[2:])
    parameters = sum(p.numel() for p in model.parameters())
    print(json.dumps({"median_ms": times[runs // 2], "fastest_ms": times[0], "runs": runs, "threads": torch.get_num_threads(), "parameters": parameters, "torch": torch.__version__}))


main()
