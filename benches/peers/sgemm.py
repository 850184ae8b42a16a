"""PyTorch's rates for a large product in float32 and bf16, in GFLOP/s; prints JSON. Usage: sgemm.py RUNS"""

import json
import sys
import time

import torch

SIZE = 2_048


def rate(dtype, runs):
    a, b = (torch.randn(SIZE, SIZE).to(dtype) for _ in range(2))
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * SIZE**3 / sorted(times[2:])[runs // 2] / 1e9


runs = int(sys.argv[1])
print(json.dumps({"float32_gflops": rate(torch.float32, runs), "bf16_gflops": rate(torch.bfloat16, runs)}))
