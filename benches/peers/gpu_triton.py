"""The mixers' recurrences as Triton kernels with their backward passes: the strong baseline.

    resolvent    one program per chain, an associative scan over its Moebius maps
    propagator   one thread per chain, sequential over time; the loads of the next four positions
                 are issued before the current four are computed; nonlinearities are inside

Without a GPU they run in Triton's interpreter (TRITON_INTERPRET=1), for tests only.
"""

import torch
import triton
import triton.language as tl

from gpu_recurrences import DIAGONAL, ETA

CHAINS = 32


@triton.jit
def complex_product(xr, xi, yr, yi):
    return xr * yr - xi * yi, xr * yi + xi * yr


@triton.jit
def compose_moebius(ar, ai, br, bi, cr, ci, dr, di, er, ei, fr, fi, gr, gi, hr, hi):
    """[e f; g h] [a b; c d], divided by its largest entry."""
    ear, eai = complex_product(er, ei, ar, ai)
    fcr, fci = complex_product(fr, fi, cr, ci)
    ebr, ebi = complex_product(er, ei, br, bi)
    fdr, fdi = complex_product(fr, fi, dr, di)
    gar, gai = complex_product(gr, gi, ar, ai)
    hcr, hci = complex_product(hr, hi, cr, ci)
    gbr, gbi = complex_product(gr, gi, br, bi)
    hdr, hdi = complex_product(hr, hi, dr, di)
    pr, pi = ear + fcr, eai + fci
    qr, qi = ebr + fdr, ebi + fdi
    rr, ri = gar + hcr, gai + hci
    sr, si = gbr + hdr, gbi + hdi
    first = tl.maximum(tl.abs(pr) + tl.abs(pi), tl.abs(qr) + tl.abs(qi))
    second = tl.maximum(tl.abs(rr) + tl.abs(ri), tl.abs(sr) + tl.abs(si))
    scale = 1.0 / tl.maximum(first, second)
    return pr * scale, pi * scale, qr * scale, qi * scale, rr * scale, ri * scale, sr * scale, si * scale


@triton.jit
def compose_affine(cr, ci, br, bi, er, ei, fr, fi):
    """x -> f + e x after x -> b + c x"""
    pr, pi = complex_product(er, ei, cr, ci)
    qr, qi = complex_product(er, ei, br, bi)
    return pr, pi, fr + qr, fi + qi


@triton.jit
def resolvent_forward_kernel(v, re, im, length, diagonal, eta, BLOCK: tl.constexpr):
    t = tl.arange(0, BLOCK)
    at = tl.program_id(0) * length + t
    ar = tl.load(v + at, mask=t < length, other=0.0) + diagonal
    zero = tl.zeros_like(ar)
    one = zero + 1.0
    maps = (zero, zero, one, zero, -one, zero, ar, zero - eta)
    _, _, br, bi, _, _, dr, di = tl.associative_scan(maps, 0, compose_moebius)
    scale = 1.0 / (dr * dr + di * di)
    tl.store(re + at, (br * dr + bi * di) * scale, mask=t < length)
    tl.store(im + at, (bi * dr - br * di) * scale, mask=t < length)


@triton.jit
def resolvent_backward_kernel(re, im, dre, dim, dv, length, BLOCK: tl.constexpr):
    # X_t = g_t^2 (u_t + X_{t+1}): positions are read from the last to the first.
    i = tl.arange(0, BLOCK)
    at = tl.program_id(0) * length + length - 1 - i
    gr, gi = tl.load(re + at, mask=i < length, other=0.0), tl.load(im + at, mask=i < length, other=0.0)
    ur, ui = tl.load(dre + at, mask=i < length, other=0.0), -tl.load(dim + at, mask=i < length, other=0.0)
    cr, ci = complex_product(gr, gi, gr, gi)
    br, bi = complex_product(cr, ci, ur, ui)
    _, _, xr, _ = tl.associative_scan((cr, ci, br, bi), 0, compose_affine)
    tl.store(dv + at, -xr, mask=i < length)


@torch.library.custom_op("peers::resolvent", mutates_args=())
def resolvent_op(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    re, im = torch.empty_like(v), torch.empty_like(v)
    chains, length = v.shape
    block = triton.next_power_of_2(length)
    resolvent_forward_kernel[(chains,)](v, re, im, length, DIAGONAL, ETA, BLOCK=block, num_warps=1)
    return re, im


@resolvent_op.register_fake
def _(v):
    return torch.empty_like(v), torch.empty_like(v)


@torch.library.custom_op("peers::resolvent_backward", mutates_args=())
def resolvent_backward(
    re: torch.Tensor, im: torch.Tensor, dre: torch.Tensor, dim: torch.Tensor
) -> torch.Tensor:
    dv = torch.empty_like(re)
    chains, length = re.shape
    block = triton.next_power_of_2(length)
    dre, dim = dre.contiguous(), dim.contiguous()
    resolvent_backward_kernel[(chains,)](re, im, dre, dim, dv, length, BLOCK=block, num_warps=1)
    return dv


@resolvent_backward.register_fake
def _(re, im, dre, dim):
    return torch.empty_like(re)


resolvent_op.register_autograd(
    lambda ctx, dre, dim: resolvent_backward(*ctx.saved_tensors, dre, dim),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*output),
)


def resolvent(v):
    """v: float32 [B, T], contiguous; returns real and imaginary parts of the features, [B, T] each."""
    return resolvent_op(v)


@triton.jit
def load_maps(maps, t, length, row, stride, HEADS: tl.constexpr):
    """Hopping, barrier and source of position t in float32."""
    at = maps + t * stride + row
    inside = t < length
    hopping = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    barrier = tl.load(at + HEADS, mask=inside, other=0.0).to(tl.float32)
    re = tl.load(at + 2 * HEADS, mask=inside, other=0.0).to(tl.float32)
    im = tl.load(at + 3 * HEADS, mask=inside, other=0.0).to(tl.float32)
    return hopping, barrier, re, im


@triton.jit
def softplus(x):
    return tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def forward_position(psi, ratios, t, length, wave, chain, chains, inputs, state, HEADS: tl.constexpr):
    hopping, barrier, ur, ui = inputs
    g, pr, pi = state
    s = tl.sigmoid(hopping)
    g = 1.0 / (1.0 + s * s + softplus(barrier) - s * s * g)
    pr = g * ((1.0 - s) * ur + s * pr)
    pi = g * ((1.0 - s) * ui + s * pi)
    inside = t < length
    tl.store(psi + t * 2 * chains + wave, pr, mask=inside)
    tl.store(psi + t * 2 * chains + wave + HEADS, pi, mask=inside)
    tl.store(ratios + t * chains + chain, g, mask=inside)
    return g, pr, pi


@triton.jit
def propagator_forward_kernel(
    maps, psi, ratios, length, chains, stride, row_stride, HEADS: tl.constexpr, CHAINS: tl.constexpr
):
    chain = tl.program_id(0) * CHAINS + tl.arange(0, CHAINS)
    steps = length
    length = tl.where(chain < chains, length, 0)
    batch, head = chain // HEADS, chain % HEADS
    row, wave = batch * row_stride + head, batch * 2 * HEADS + head
    zero = tl.zeros([CHAINS], tl.float32)
    state = (zero, zero, zero)
    n0 = load_maps(maps, 0, length, row, stride, HEADS)
    n1 = load_maps(maps, 1, length, row, stride, HEADS)
    n2 = load_maps(maps, 2, length, row, stride, HEADS)
    n3 = load_maps(maps, 3, length, row, stride, HEADS)
    for t in range(0, steps, 4):
        c0, c1, c2, c3 = n0, n1, n2, n3
        n0 = load_maps(maps, t + 4, length, row, stride, HEADS)
        n1 = load_maps(maps, t + 5, length, row, stride, HEADS)
        n2 = load_maps(maps, t + 6, length, row, stride, HEADS)
        n3 = load_maps(maps, t + 7, length, row, stride, HEADS)
        state = forward_position(psi, ratios, t, length, wave, chain, chains, c0, state, HEADS)
        state = forward_position(psi, ratios, t + 1, length, wave, chain, chains, c1, state, HEADS)
        state = forward_position(psi, ratios, t + 2, length, wave, chain, chains, c2, state, HEADS)
        state = forward_position(psi, ratios, t + 3, length, wave, chain, chains, c3, state, HEADS)


@triton.jit
def load_all(maps, psi, ratios, dpsi, t, length, row, wave, chain, chains, stride, HEADS: tl.constexpr):
    """Maps and gradient of position t, ratio and wave of position t - 1."""
    inside = (t >= 0) & (t < length)
    before = (t >= 1) & (t < length)
    at = maps + t * stride + row
    hopping = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    barrier = tl.load(at + HEADS, mask=inside, other=0.0).to(tl.float32)
    ur = tl.load(at + 2 * HEADS, mask=inside, other=0.0).to(tl.float32)
    ui = tl.load(at + 3 * HEADS, mask=inside, other=0.0).to(tl.float32)
    here = t * 2 * chains + wave
    dr = tl.load(dpsi + here, mask=inside, other=0.0)
    di = tl.load(dpsi + here + HEADS, mask=inside, other=0.0)
    g = tl.load(ratios + (t - 1) * chains + chain, mask=before, other=0.0)
    pr = tl.load(psi + here - 2 * chains, mask=before, other=0.0)
    pi = tl.load(psi + here - 2 * chains + HEADS, mask=before, other=0.0)
    return hopping, barrier, ur, ui, dr, di, g, pr, pi


@triton.jit
def backward_position(dmaps, t, length, row, stride, inputs, state, HEADS: tl.constexpr):
    hopping, barrier, ur, ui, dr, di, before, br, bi = inputs
    # Ratio of this position; adjoints that the next position has sent to it.
    g, dg, pr, pi = state
    s = tl.sigmoid(hopping)
    pr, pi = pr + dr, pi + di
    qr, qi = (1.0 - s) * ur + s * br, (1.0 - s) * ui + s * bi
    dq_r, dq_i = g * pr, g * pi
    ddenominator = -g * g * (dg + qr * pr + qi * pi)
    ds = br * dq_r + bi * dq_i - 2.0 * s * before * ddenominator + 2.0 * s * ddenominator - ur * dq_r - ui * dq_i
    inside = (t >= 0) & (t < length)
    kind = dmaps.dtype.element_ty
    at = dmaps + t * stride + row
    tl.store(at, (ds * s * (1.0 - s)).to(kind), mask=inside)
    tl.store(at + HEADS, (ddenominator * tl.sigmoid(barrier)).to(kind), mask=inside)
    tl.store(at + 2 * HEADS, ((1.0 - s) * dq_r).to(kind), mask=inside)
    tl.store(at + 3 * HEADS, ((1.0 - s) * dq_i).to(kind), mask=inside)
    return before, -s * s * ddenominator, s * dq_r, s * dq_i


@triton.jit
def propagator_backward_kernel(
    maps, psi, ratios, dpsi, dmaps, length, chains, stride, row_stride, HEADS: tl.constexpr, CHAINS: tl.constexpr
):
    chain = tl.program_id(0) * CHAINS + tl.arange(0, CHAINS)
    steps = length
    length = tl.where(chain < chains, length, 0)
    batch, head = chain // HEADS, chain % HEADS
    row, wave = batch * row_stride + head, batch * 2 * HEADS + head
    # The gradient has rows of 4H.
    to, to_stride = batch * 4 * HEADS + head, 4 * chains
    zero = tl.zeros([CHAINS], tl.float32)
    last = steps - 1
    g = tl.load(ratios + last * chains + chain, mask=last < length, other=0.0)
    state = (g, zero, zero, zero)
    n0 = load_all(maps, psi, ratios, dpsi, last, length, row, wave, chain, chains, stride, HEADS)
    n1 = load_all(maps, psi, ratios, dpsi, last - 1, length, row, wave, chain, chains, stride, HEADS)
    n2 = load_all(maps, psi, ratios, dpsi, last - 2, length, row, wave, chain, chains, stride, HEADS)
    n3 = load_all(maps, psi, ratios, dpsi, last - 3, length, row, wave, chain, chains, stride, HEADS)
    for i in range(0, steps, 4):
        t = last - i
        c0, c1, c2, c3 = n0, n1, n2, n3
        n0 = load_all(maps, psi, ratios, dpsi, t - 4, length, row, wave, chain, chains, stride, HEADS)
        n1 = load_all(maps, psi, ratios, dpsi, t - 5, length, row, wave, chain, chains, stride, HEADS)
        n2 = load_all(maps, psi, ratios, dpsi, t - 6, length, row, wave, chain, chains, stride, HEADS)
        n3 = load_all(maps, psi, ratios, dpsi, t - 7, length, row, wave, chain, chains, stride, HEADS)
        state = backward_position(dmaps, t, length, to, to_stride, c0, state, HEADS)
        state = backward_position(dmaps, t - 1, length, to, to_stride, c1, state, HEADS)
        state = backward_position(dmaps, t - 2, length, to, to_stride, c2, state, HEADS)
        state = backward_position(dmaps, t - 3, length, to, to_stride, c3, state, HEADS)


def rows_of(maps):
    """The tensor, with unit stride in its last dimension and rows of equal distance."""
    regular = maps.stride(-1) == 1 and maps.stride(0) == maps.shape[1] * maps.stride(1)
    return maps if regular else maps.contiguous()


@torch.library.custom_op("peers::propagator", mutates_args=())
def propagator(maps: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """maps: [T, B, 4H] as in gpu_recurrences.propagator; returns waves [T, B, 2H] and ratios [T, B, H]."""
    maps = rows_of(maps)
    length, batch, _ = maps.shape
    chains = batch * heads
    psi = torch.empty(length, batch, 2 * heads, device=maps.device, dtype=torch.float32)
    ratios = torch.empty(length, batch, heads, device=maps.device, dtype=torch.float32)
    propagator_forward_kernel[(triton.cdiv(chains, CHAINS),)](
        maps, psi, ratios, length, chains, maps.stride(0), maps.stride(1), HEADS=heads, CHAINS=CHAINS, num_warps=1
    )
    return psi, ratios


@propagator.register_fake
def _(maps, heads):
    length, batch, _ = maps.shape
    return (
        maps.new_empty(length, batch, 2 * heads, dtype=torch.float32),
        maps.new_empty(length, batch, heads, dtype=torch.float32),
    )


@torch.library.custom_op("peers::propagator_backward", mutates_args=())
def propagator_backward(
    maps: torch.Tensor, psi: torch.Tensor, ratios: torch.Tensor, dpsi: torch.Tensor, heads: int
) -> torch.Tensor:
    maps, dpsi = rows_of(maps), dpsi.contiguous()
    length, batch, _ = maps.shape
    chains = batch * heads
    dmaps = torch.empty(maps.shape, device=maps.device, dtype=maps.dtype)
    propagator_backward_kernel[(triton.cdiv(chains, CHAINS),)](
        maps, psi, ratios, dpsi, dmaps, length, chains, maps.stride(0), maps.stride(1),
        HEADS=heads, CHAINS=CHAINS, num_warps=1,
    )  # fmt: skip
    return dmaps


@propagator_backward.register_fake
def _(maps, psi, ratios, dpsi, heads):
    return torch.empty(maps.shape, device=maps.device, dtype=maps.dtype)


def keep_for_backward(ctx, inputs, output):
    # The ratios are returned for the backward pass only and get no gradient.
    ctx.set_materialize_grads(False)
    maps, ctx.heads = inputs
    ctx.save_for_backward(maps, *output)


propagator.register_autograd(
    lambda ctx, dpsi, _: (propagator_backward(*ctx.saved_tensors, dpsi, ctx.heads), None),
    setup_context=keep_for_backward,
)
