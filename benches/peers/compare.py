"""Our training step beside PyTorch's, interleaved on one machine. Usage: compare.py RESNET_BK [--rounds 3] [--runs 10]

Each round runs every contestant in a process of its own; a contestant's figure is the median of its rounds' medians. Two
threads each, set by OMP_NUM_THREADS and RAYON_NUM_THREADS.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
# Keeps freed memory in the process instead of giving it back to the system after each step.
TUNED = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 33),
    "MALLOC_TOP_PAD_": str(1 << 28),
}


def run(command, extra=None):
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "RAYON_NUM_THREADS": "2", **(extra or {})}
    done = subprocess.run(command, env=environment, cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip() if done.stdout.lstrip().startswith("{\n") else done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("resnet_bk", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    binary, runs = arguments.resnet_bk.resolve(), str(arguments.runs)
    torch_step = [sys.executable, "step.py"]
    steps = {
        "resnet-bk": lambda: run([binary, "bench", "step", "--json", "--runs", runs])["step"],
        "resnet-bk float32": lambda: run([binary, "bench", "step", "--json", "--precision", "float32", "--runs", runs])["step"],
        "PyTorch": lambda: run([*torch_step, "plain", runs]),
        "PyTorch, tuned allocator": lambda: run([*torch_step, "plain", runs], TUNED),
        "PyTorch, tuned, torch.compile": lambda: run([*torch_step, "compile", runs], TUNED),
        "PyTorch, tuned, linear_cross_entropy": lambda: run([*torch_step, "fused-loss", runs], TUNED),
        "resolvent, element by element": lambda: run([sys.executable, "resolvent.py", str(max(2, arguments.runs // 5))]),
    }
    medians = {name: [] for name in steps}
    for _ in range(arguments.rounds):
        for name, measure in steps.items():
            medians[name].append(measure()["median_ms"])
    ours = statistics.median(medians["resnet-bk"])
    print(f"{'training step of the seed model':<38} {'ms':>8}  over ours   rounds")
    for name, values in medians.items():
        median = statistics.median(values)
        rounds = " ".join(f"{value:.0f}" for value in values)
        print(f"{name:<38} {median:>8.1f}  {median / ours:>8.2f}x   {rounds}")
    kernels = run([binary, "bench", "kernel", "--json", "--runs", runs])
    scan = next(case for case in kernels["resolvent"] if (case["batch"], case["heads"], case["length"], case["stretches"]) == (20, 1, 128, "allowed"))
    element = statistics.median(medians["resolvent, element by element"])
    print(f"\nresolvent, 20 x 128, forward and backward: {scan['time']['median_ms']:.4f} ms; element by element {element / scan['time']['median_ms']:.0f}x")
    rates = run([sys.executable, "sgemm.py", runs])
    print(f"float32 products: ours {kernels['sgemm_gflops']:.0f} GFLOP/s, PyTorch {rates['float32_gflops']:.0f}; bf16 in PyTorch {rates['bf16_gflops']:.0f}")


main()
