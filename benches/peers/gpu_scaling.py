"""A Transformer block's time and memory per token against the sequence length; prints JSON lines.

    x + W_o attention(LayerNorm(x)), then x + W_2 relu(W_1 LayerNorm(x))       causal

Forward and backward under bf16 autocast, width 256, feed-forward 512, 4 and 8 heads: the width of a
propagator block. `B` windows of `T` tokens with `B T = max(T, 16,384)`. For each size the fastest of
PyTorch's fused attention kernels is found first (`attention` in the output). Running out of memory
is reported. Usage: gpu_scaling.py [--lengths 128,512] [--heads 4] [--seconds 340]
"""

import argparse
import json
import time

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpu_measure import WARM_UP, Graph, clear_memory, intervals, timing, versions

WIDTH, HIDDEN, TOKENS = 256, 512, 16_384
LENGTHS = [128, 512, 2_048, 8_192, 32_768, 131_072]
KERNELS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
ON_CPU = {"flash": SDPBackend.FLASH_ATTENTION}
# Timed runs end after about so many milliseconds.
LONGEST_MS = 2_000


class Block(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.norm, self.ffn_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.maps, self.output = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.heads = heads

    def forward(self, x):
        """x: [B, T, D]"""
        maps = self.maps(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = maps.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).flatten(-2))
        return x + self.down(functional.relu(self.up(self.ffn_norm(x))))


def fastest_kernel(heads, batch, length, device):
    """Name and times of the fused attention kernels, forward and backward."""
    times = {}
    for name, backend in (KERNELS if device.type == "cuda" else ON_CPU).items():
        try:
            q, k, v = (
                torch.randn(batch, length, heads, WIDTH // heads, device=device, dtype=torch.bfloat16)
                .transpose(1, 2).requires_grad_()
                for _ in range(3)
            )  # fmt: skip
            gradient = torch.randn_like(q)

            def body(_):
                with sdpa_kernel(backend):
                    functional.scaled_dot_product_attention(q, k, v, is_causal=True).backward(gradient)
                q.grad = k.grad = v.grad = None

            for run in range(3):
                body(run)
            times[name] = timing(*intervals(body, 5, device))["median_ms"]
        except Exception:
            continue
    if not times:
        raise RuntimeError("no fused attention kernel runs at this size")
    return min(times, key=times.get), times


def measure(block, function, x, gradient, backend, device, graph):
    """Times forward and backward; memory is the peak above what block, input and gradients of both hold."""
    for tensor in [x, *block.parameters()]:
        tensor.grad = torch.zeros_like(tensor)
    clear_memory(device)
    held = torch.cuda.memory_allocated() if device.type == "cuda" else 0

    def step(*_):
        for tensor in [x, *block.parameters()]:
            tensor.grad = None
        with torch.autocast(device.type, torch.bfloat16), sdpa_kernel(backend):
            y = function(x)
        y.backward(gradient)
        return y.detach()

    started = time.perf_counter()
    finite = bool(torch.isfinite(step()).all())
    first = time.perf_counter() - started
    memory = torch.cuda.max_memory_allocated() - held if device.type == "cuda" else None
    run = Graph(step, torch.zeros(1, 1, device=device)).graph.replay if graph else step
    for _ in range(3 if first > 1 else WARM_UP):
        run()
    estimate = timing(*intervals(lambda _: run(), 2, device))["median_ms"]
    runs = int(max(5, min(50, LONGEST_MS / max(estimate, 1e-3))))
    return {**timing(*intervals(lambda _: run(), runs, device)), "finite": finite, "first_step_s": first}, memory


def report(record):
    print(json.dumps(record), flush=True)


def failure(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def measure_size(heads, length, device):
    batch = max(1, (TOKENS if device.type == "cuda" else 256) // length)
    labels = {"mixer": "attention", "heads": heads, "length": length, "batch": batch}
    tokens = batch * length
    try:
        kernel, kernels = fastest_kernel(heads, batch, length, device)
        torch.manual_seed(1)
        block = Block(heads).to(device)
        x = torch.randn(batch, length, WIDTH, device=device).requires_grad_()
        gradient = torch.randn_like(x)
    except Exception as error:
        report({**labels, "error": failure(error)})
        return
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, dynamic=False)
    backend = {**KERNELS, **ON_CPU}[kernel]
    ways = [("eager", block, False), ("compile", compiled, False)]
    if device.type == "cuda":
        ways += [("eager+cudagraphs", block, True), ("compile+cudagraphs", compiled, True)]
    for way, function, graph in ways:
        try:
            times, memory = measure(block, function, x, gradient, backend, device, graph)
            report({
                **labels, "way": way, "attention": kernel, "attention_ms": kernels,
                "ns_per_token": 1e6 * times["median_ms"] / tokens,
                "bytes_per_token": memory / tokens if memory else None, "peak_memory": memory,
                **times, **versions(device),
            })  # fmt: skip
        except Exception as error:
            report({**labels, "way": way, "error": failure(error)})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(part) for part in text.split(",")]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--lengths", type=numbers, default=LENGTHS if device.type == "cuda" else [64, 128])
    parser.add_argument("--heads", type=numbers, default=[4, 8])
    parser.add_argument("--seconds", type=float, default=340, help="no size is started after so many")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    for heads in arguments.heads:
        for length in arguments.lengths:
            if time.monotonic() > deadline:
                report({"mixer": "attention", "heads": heads, "length": length, "error": "not started: the time is used up"})
            else:
                measure_size(heads, length, device)
                clear_memory(device)


if __name__ == "__main__":
    main()
