"""The head's losses, in two ways.

    cross entropy   L = ln sum e^l - l_y                                 l = h W^T + b
    distillation    L = alpha tau^2 KL(p' || p) + (1 - alpha) ln sum e^l - l_y
                    p = softmax(l / tau), p' = softmax(l' / tau), l' the teacher's logits

    torch    the formula, for autograd and torch.compile
    triton   logits by cuBLAS; one kernel then computes the loss of a row and overwrites its logits
             with their gradients, so the backward pass needs no logits (as Liger Kernel does, arXiv
             2410.10989); the bias is a column of the table, so its gradient needs no pass of its own

The result is the mean over tokens.
"""

import torch
from torch.nn import functional

TEMPERATURE, ALPHA = 2.0, 0.7
BLOCK = 4096


def cross_entropy(hidden, weight, bias, targets, kernel):
    """Under autocast. hidden: [n, D], weight: [V, D], bias: [V], targets: [n]."""
    if kernel == "triton":
        import gpu_triton_losses

        return gpu_triton_losses.cross_entropy(*half(hidden, weight, bias), targets)[0]
    return functional.cross_entropy(at_least_float32(functional.linear(hidden, weight, bias)), targets)


def distillation(hidden, weight, bias, teacher, targets, kernel):
    """`teacher`: hidden states, weight and bias of the teacher's head, constants."""
    if kernel == "triton":
        import gpu_triton_losses

        return gpu_triton_losses.distillation(*half(hidden, weight, bias), *half(*teacher), targets)[0]
    with torch.no_grad():
        teacher_logits = at_least_float32(functional.linear(*teacher))
    logits = at_least_float32(functional.linear(hidden, weight, bias))
    student = (logits / TEMPERATURE).log_softmax(-1)
    target = (teacher_logits / TEMPERATURE).log_softmax(-1)
    soft = functional.kl_div(student, target, log_target=True, reduction="batchmean")
    hard = functional.cross_entropy(logits, targets)
    return ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * hard


def at_least_float32(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


def half(hidden, weight, bias):
    """[h 1] and [W b] in bf16, with zero columns up to a multiple of 8: rows of 16 bytes."""
    width = hidden.shape[-1]
    pad = -(width + 1) % 8
    hidden, weight, bias = hidden.bfloat16(), weight.bfloat16(), bias.bfloat16()
    rows = torch.cat([hidden, torch.ones_like(hidden[:, :1]), hidden.new_zeros(hidden.shape[0], pad)], 1)
    table = torch.cat([weight, bias[:, None], weight.new_zeros(weight.shape[0], pad)], 1)
    return rows, table
