"""Compares the recurrences' variants and their gradients: `gpu_step.py --check`.

The reference is the equation differentiated by autograd, in float64 on the CPU. Loop and scan are
compared in float64 and float32, Triton's kernels (float32) where there is a GPU or
TRITON_INTERPRET=1. The error is the norm of the difference over the norm of the reference. Losses
are compared in bf16, with the formula in float64 on the same rounded inputs.
"""

import os

import torch
from torch.nn import functional

from gpu_losses import cross_entropy, distillation
from gpu_recurrences import DIAGONAL, ETA, propagator, resolvent

# Rounding over 128 positions; a wrong term gives errors above 1e-2.
LARGEST_ERROR = {torch.float64: 1e-10, torch.float32: 5e-5}
# Logits and their gradients are rounded to 8 bits of mantissa.
LARGEST_LOSS_ERROR = 2e-2
LENGTHS = [1, 2, 5, 16, 33, 128]


def resolvent_by_equation(v):
    g, out = torch.zeros(v.shape[0], dtype=torch.complex128), []
    for t in range(v.shape[1]):
        g = 1 / (v[:, t] + DIAGONAL - 1j * ETA - g)
        out.append(g)
    g = torch.stack(out, 1)
    return torch.stack([g.real, g.imag])


def propagator_by_equation(maps, heads):
    hopping, barrier, re, im = maps.unflatten(-1, (4, heads)).unbind(2)
    s = torch.sigmoid(hopping)
    a = 1 + s * s + functional.softplus(barrier)
    source = torch.complex(re, im) * (1 - s)
    g, psi, out = torch.zeros_like(s[0]), torch.zeros_like(source[0]), []
    for t in range(maps.shape[0]):
        g = 1 / (a[t] - s[t] * s[t] * g)
        psi = g * (source[t] + s[t] * psi)
        out.append(psi)
    psi = torch.stack(out)
    return torch.cat([psi.real, psi.imag], -1)


def with_gradient(function, x, weights):
    x = x.detach().requires_grad_()
    y = function(x)
    (y * weights).sum().backward()
    return y.detach().double().cpu(), x.grad.double().cpu()


def error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def cases(length, generator):
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)
    v = (1.5 * draw(5, length)).clamp(-3, 3)
    yield (
        "resolvent", v, draw(2, 5, length), resolvent_by_equation,
        lambda x, method: torch.stack(resolvent(x, method)),
    )  # fmt: skip
    # 3 x 11 chains: not a multiple of a program's 32.
    for batch, heads in [(3, 11), (2, 32)]:
        maps = draw(length, batch, 4 * heads)
        maps[..., heads : 2 * heads] -= 2
        yield (
            "propagator", maps, draw(length, batch, 2 * heads),
            lambda x, heads=heads: propagator_by_equation(x, heads),
            lambda x, method, heads=heads: propagator(x, heads, method),
        )  # fmt: skip


def contestants():
    yield from [("loop", torch.float64, "cpu"), ("scan", torch.float64, "cpu"), ("loop", torch.float32, "cpu")]
    yield "scan", torch.float32, "cpu"
    if torch.cuda.is_available():
        yield from [(method, torch.float32, "cuda") for method in ("loop", "scan", "triton")]
    elif os.environ.get("TRITON_INTERPRET") == "1":
        yield "triton", torch.float32, "cpu"


def check_losses(report, device):
    """Each loss, by autograd and by its kernel, with autograd in float64."""
    passed = True
    generator = torch.Generator().manual_seed(2)
    # Vocabularies below, at and above a kernel's block of 4,096.
    for vocabulary in (33, 4_096, 5_003):
        draw = lambda *shape: torch.randn(*shape, generator=generator).bfloat16().double()
        head, teacher = (tuple(draw(*shape) for shape in ((7, 23), (vocabulary, 23), (vocabulary,))) for _ in range(2))
        targets = torch.randint(vocabulary, (7,), generator=generator)
        losses = {
            "cross_entropy": lambda head, place, kernel: cross_entropy(*head, place(targets), kernel),
            "distillation": lambda head, place, kernel: distillation(
                *head, tuple(map(place, teacher)), place(targets), kernel
            ),
        }
        for name, loss in losses.items():
            results = {}
            for kernel in ("float64", "torch", "triton"):
                on_device = lambda x: x.to(device, torch.float32 if x.is_floating_point() else x.dtype)
                place = on_device if kernel != "float64" else lambda x: x
                inputs = [place(x).clone().requires_grad_() for x in head]
                with torch.autocast(device, torch.bfloat16, enabled=kernel != "float64"):
                    value = loss(inputs, place, "torch" if kernel == "float64" else kernel)
                value.backward()
                results[kernel] = [x.double().cpu() for x in (value.detach(), *(x.grad for x in inputs))]
                if kernel == "float64":
                    continue
                errors = [error(*pair) for pair in zip(results[kernel], results["float64"])]
                good = all(e <= LARGEST_LOSS_ERROR for e in errors)
                passed &= good
                report({
                    "check": name, "loss": kernel, "vocabulary": vocabulary, "device": device,
                    "error": errors[0], "gradient_error": max(errors[1:]), "passed": good,
                })  # fmt: skip
    return passed


def check(report):
    """Reports the largest errors over all sizes; returns whether all are small enough."""
    generator = torch.Generator().manual_seed(1)
    worst = {}
    for length in LENGTHS:
        for name, x, weights, equation, function in cases(length, generator):
            y, gradient = with_gradient(equation, x, weights)
            for method, dtype, device in contestants():
                cast = lambda tensor: tensor.to(device, dtype)
                found = with_gradient(lambda x: function(x, method), cast(x), cast(weights))
                errors = [error(found[0], y), error(found[1], gradient)]
                key = (name, method, dtype, device)
                # max would drop NaN.
                worst[key] = [b if not b <= a else a for a, b in zip(worst.get(key, [0, 0]), errors)]
    passed = True
    for (name, method, dtype, device), errors in worst.items():
        good = all(e <= LARGEST_ERROR[dtype] for e in errors)
        passed &= good
        report({
            "check": name, "recurrence": method, "dtype": str(dtype).removeprefix("torch."), "device": device,
            "error": errors[0], "gradient_error": errors[1], "passed": good,
        })  # fmt: skip
    if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1":
        passed &= check_losses(report, "cuda" if torch.cuda.is_available() else "cpu")
    return passed
