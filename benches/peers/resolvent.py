"""Times the resolvent as one would first write it, an element at a time, forward and backward; prints JSON. Usage: resolvent.py RUNS"""

import json
import sys
import time

import torch

BATCH, LENGTH = 20, 128


def features(v):
    """g_t = 1 / (a_t - i - g_{t-1}), one element after another."""
    out = []
    for row in v:
        g = torch.zeros((), dtype=torch.complex64)
        for element in row:
            g = 1 / (element - 2 - 1j - g)
            out.append(g)
    return torch.stack(out)


def main():
    runs = int(sys.argv[1])
    torch.manual_seed(1)
    v = torch.randn(BATCH, LENGTH, requires_grad=True)
    weights = torch.randn(2, BATCH * LENGTH)
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        g = features(v)
        (g.real * weights[0] + g.imag * weights[1]).sum().backward()
        times.append(1e3 * (time.perf_counter() - start))
    times = sorted(times[1:])
    print(json.dumps({"median_ms": times[runs // 2], "fastest_ms": times[0], "runs": runs}))


main()
