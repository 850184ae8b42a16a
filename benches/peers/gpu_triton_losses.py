"""Triton kernels of the head's losses; equations in gpu_losses.py."""

import torch
import triton
import triton.language as tl

from gpu_losses import ALPHA, BLOCK, TEMPERATURE

WARPS = 8


@triton.jit
def cross_entropy_kernel(logits, targets, losses, vocabulary, scale, BLOCK: tl.constexpr):
    """Loss of a row; its logits become gradients, times `scale`."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * vocabulary
    target = tl.load(targets + row)
    columns = tl.arange(0, BLOCK)
    largest, total = -1e30, 0.0
    for start in range(0, vocabulary, BLOCK):
        inside = start + columns < vocabulary
        x = tl.load(logits + start + columns, mask=inside, other=-1e30).to(tl.float32)
        new = tl.maximum(largest, tl.max(x, 0))
        total = total * tl.exp(largest - new) + tl.sum(tl.exp(x - new), 0)
        largest = new
    normalizer = largest + tl.log(total)
    tl.store(losses + row, normalizer - tl.load(logits + target).to(tl.float32))
    # All threads have read the target's logit before one of them overwrites it.
    tl.debug_barrier()
    for start in range(0, vocabulary, BLOCK):
        inside = start + columns < vocabulary
        x = tl.load(logits + start + columns, mask=inside, other=-1e30).to(tl.float32)
        gradient = (tl.exp(x - normalizer) - (start + columns == target).to(tl.float32)) * scale
        tl.store(logits + start + columns, gradient.to(logits.dtype.element_ty), mask=inside)


@triton.jit
def distillation_kernel(
    logits, teacher, targets, losses, vocabulary, scale, TAU: tl.constexpr, ALPHA: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    logits += row * vocabulary
    teacher += row * vocabulary
    target = tl.load(targets + row)
    columns = tl.arange(0, BLOCK)
    largest, total, soft_total = -1e30, 0.0, 0.0
    teacher_largest, teacher_total, difference = -1e30, 0.0, 0.0
    for start in range(0, vocabulary, BLOCK):
        inside = start + columns < vocabulary
        x = tl.load(logits + start + columns, mask=inside, other=-1e30).to(tl.float32)
        z = tl.load(teacher + start + columns, mask=inside, other=-1e30).to(tl.float32)
        new = tl.maximum(largest, tl.max(x, 0))
        total = total * tl.exp(largest - new) + tl.sum(tl.exp(x - new), 0)
        soft_total = soft_total * tl.exp((largest - new) / TAU) + tl.sum(tl.exp((x - new) / TAU), 0)
        largest = new
        new = tl.maximum(teacher_largest, tl.max(z, 0))
        e, shrink = tl.exp((z - new) / TAU), tl.exp((teacher_largest - new) / TAU)
        teacher_total = teacher_total * shrink + tl.sum(e, 0)
        difference = difference * shrink + tl.sum(e * (z - x) / TAU, 0)
        teacher_largest = new
    normalizer = largest + tl.log(total)
    soft = largest / TAU + tl.log(soft_total)
    teacher_soft = teacher_largest / TAU + tl.log(teacher_total)
    divergence = difference / teacher_total - teacher_soft + soft
    hard = normalizer - tl.load(logits + target).to(tl.float32)
    tl.store(losses + row, ALPHA * TAU * TAU * divergence + (1.0 - ALPHA) * hard)
    tl.debug_barrier()
    for start in range(0, vocabulary, BLOCK):
        inside = start + columns < vocabulary
        x = tl.load(logits + start + columns, mask=inside, other=-1e30).to(tl.float32)
        z = tl.load(teacher + start + columns, mask=inside, other=-1e30).to(tl.float32)
        of_soft = tl.exp(x / TAU - soft) - tl.exp(z / TAU - teacher_soft)
        of_hard = tl.exp(x - normalizer) - (start + columns == target).to(tl.float32)
        gradient = (ALPHA * TAU * of_soft + (1.0 - ALPHA) * of_hard) * scale
        tl.store(logits + start + columns, gradient.to(logits.dtype.element_ty), mask=inside)


def mean_and_gradients(hidden, table, losses, gradient):
    return losses.mean(), gradient @ table, gradient.t() @ hidden


@torch.library.custom_op("peers::cross_entropy", mutates_args=())
def cross_entropy(
    hidden: torch.Tensor, table: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss and gradients. hidden: [n, D], table: [V, D], both with the bias as a column."""
    logits = hidden @ table.t()
    n, vocabulary = logits.shape
    losses = torch.empty(n, device=logits.device)
    cross_entropy_kernel[(n,)](logits, targets, losses, vocabulary, 1.0 / n, BLOCK=BLOCK, num_warps=WARPS)
    return mean_and_gradients(hidden, table, losses, logits)


@torch.library.custom_op("peers::distillation", mutates_args=())
def distillation(
    hidden: torch.Tensor,
    table: torch.Tensor,
    teacher_hidden: torch.Tensor,
    teacher_table: torch.Tensor,
    targets: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logits, teacher = hidden @ table.t(), teacher_hidden @ teacher_table.t()
    n, vocabulary = logits.shape
    losses = torch.empty(n, device=logits.device)
    distillation_kernel[(n,)](
        logits, teacher, targets, losses, vocabulary, 1.0 / n,
        TAU=TEMPERATURE, ALPHA=ALPHA, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return mean_and_gradients(hidden, table, losses, logits)


def shapes(hidden, table, *_):
    return hidden.new_empty((), dtype=torch.float32), torch.empty_like(hidden), torch.empty_like(table)


def keep(ctx, inputs, output):
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[1:])
    ctx.others = len(inputs) - 2


def scaled(ctx, gradient, *_):
    dhidden, dtable = ctx.saved_tensors
    return gradient * dhidden, gradient * dtable, *[None] * ctx.others


for op in (cross_entropy, distillation):
    op.register_fake(shapes)
    op.register_autograd(scaled, setup_context=keep)
