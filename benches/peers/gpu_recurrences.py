"""The mixers' recurrences over time in torch operations, with exact gradients.

    ratios   g_t = 1 / (a_t - s_t^2 g_{t-1})      g_0 = 0      (a_t may be complex: a_t - i eta)
    affine   x_t = b_t + c_t x_{t-1}              x_0 = 0

Both are written in two ways:

    loop     one position after another, all chains at once
    scan     log2(T) doublings (Hillis, Steele): a stretch of ratios is a Moebius map, a 2x2 matrix
             that is rescaled after each product; a stretch of an affine recurrence is affine

A third way, `triton`, is in gpu_triton.py. Time is dimension 0. A number is a tuple: `(x,)` with x
real or complex, or `(re, im)`, because torch.compile generates no code for complex tensors.
"""

import torch

DIAGONAL, ETA = -2.0, 1.0


def multiply(x, y):
    if len(x) == 1:
        return (x[0] * y[0],)
    return (x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0])


def multiply_add(b, c, x):
    """b + c x"""
    if len(b) == 1:
        return (torch.addcmul(b[0], c[0], x[0]),)
    product = multiply(c, x)
    return (b[0] + product[0], b[1] + product[1])


def divide(x, y):
    if len(x) == 1:
        return (x[0] / y[0],)
    scale = 1 / (y[0] * y[0] + y[1] * y[1])
    return ((x[0] * y[0] + x[1] * y[1]) * scale, (x[1] * y[0] - x[0] * y[1]) * scale)


def each(function, *numbers):
    return tuple(function(*parts) for parts in zip(*numbers))


def ratios_loop(a, squares):
    g = each(lambda part: torch.zeros_like(part[0]), a)
    rows, squares = list(zip(*each(lambda part: part.unbind(0), a))), squares.unbind(0)
    out = []
    for row, square in zip(rows, squares):
        denominator = each(lambda x, y: torch.addcmul(x, square, y, value=-1), row, g)
        if len(a) == 1:
            g = (denominator[0].reciprocal(),)
        else:
            scale = 1 / (denominator[0] * denominator[0] + denominator[1] * denominator[1])
            g = (denominator[0] * scale, -denominator[1] * scale)
        out.append(g)
    return each(torch.stack, list(zip(*out)))


def ratios_scan(a, squares):
    def matrices(part, one):
        zero = torch.zeros_like(part)
        entries = [zero, zero + one, -squares * one + zero, part]
        return torch.stack(entries, -1).unflatten(-1, (2, 2))

    def compose(later, earlier):
        left, right = each(lambda x: x.unsqueeze(-1), later), each(lambda x: x.unsqueeze(-3), earlier)
        product = each(lambda x: x.sum(-2), multiply(left, right))
        size = product[0].abs() if len(product) == 1 else product[0].abs() + product[1].abs()
        scale = 1 / size.amax((-2, -1), keepdim=True)
        return each(lambda x: x * scale, product)

    p = (matrices(a[0], 1),) + tuple(matrices(part, 0) for part in a[1:])
    stride = 1
    while stride < a[0].shape[0]:
        composed = compose(each(lambda x: x[stride:], p), each(lambda x: x[:-stride], p))
        p = each(lambda x, y: torch.cat([x[:stride], y]), p, composed)
        stride *= 2
    return divide(each(lambda x: x[..., 0, 1], p), each(lambda x: x[..., 1, 1], p))


def affine_loop(c, b, reverse):
    factors = list(zip(*each(lambda part: part.unbind(0), c)))
    terms = list(zip(*each(lambda part: part.unbind(0), b)))
    order = range(len(terms) - 1, -1, -1) if reverse else range(len(terms))
    out = [None] * len(terms)
    x = None
    for t in order:
        x = terms[t] if x is None else multiply_add(terms[t], factors[t], x)
        out[t] = x
    return each(torch.stack, list(zip(*out)))


def affine_scan(c, b, reverse):
    length, stride = b[0].shape[0], 1
    while stride < length:
        if reverse:
            near, far, rest = slice(None, -stride), slice(stride, None), slice(-stride, None)
        else:
            near, far, rest = slice(stride, None), slice(None, -stride), slice(None, stride)
        joined = (lambda x, y: torch.cat([y, x[rest]])) if reverse else (lambda x, y: torch.cat([x[rest], y]))
        cut = lambda x, part: each(lambda y: y[part], x)
        b = each(joined, b, multiply_add(cut(b, near), cut(c, near), cut(b, far)))
        if 2 * stride < length:
            c = each(joined, c, multiply(cut(c, near), cut(c, far)))
        stride *= 2
    return b


RATIOS = {"loop": ratios_loop, "scan": ratios_scan}
AFFINE = {"loop": affine_loop, "scan": affine_scan}


def number(re, im):
    """`(re, im)` where torch.compile traces, otherwise one complex tensor: fewer launches."""
    return (re, im) if torch.compiler.is_compiling() else (torch.complex(re, im),)


def parts(x):
    return x if len(x) == 2 else (x[0].real, x[0].imag)


class Resolvent(torch.autograd.Function):
    """g_t = 1 / (a0 + v_t - i eta - g_{t-1}); v is [T, chains], returns real and imaginary parts.

    Backward: X_t = g_t^2 (u_t + X_{t+1}), u = dL/dRe - i dL/dIm, dv_t = -Re X_t.
    """

    @staticmethod
    def forward(ctx, v, method):
        a = number(v + DIAGONAL, torch.full_like(v, -ETA))
        re, im = parts(RATIOS[method](a, torch.ones_like(a[0])))
        ctx.save_for_backward(re, im)
        ctx.method = method
        return re, im

    @staticmethod
    def backward(ctx, dre, dim):
        g, u = number(*ctx.saved_tensors), number(dre, -dim)
        squares = multiply(g, g)
        x = AFFINE[ctx.method](squares, multiply(squares, u), True)
        return -parts(x)[0], None


def earlier(x):
    """x_{t-1}"""
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def later(x):
    """x_{t+1}"""
    return torch.cat([x[1:], torch.zeros_like(x[:1])])


class Propagator(torch.autograd.Function):
    """psi_t = g_t (w_t + s_t psi_{t-1}), g_t = 1 / (a_t - s_t^2 g_{t-1}), with eta = 0.

    a, s: [T, B, 1, H]; w: [T, B, 2, H], real and imaginary parts; returns [T, B, 2, H]. Backward as
    in crates/resnet-bk/src/ops/propagator/mod.rs, where g is real.
    """

    @staticmethod
    def forward(ctx, a, s, w, method):
        (g,) = RATIOS[method]((a,), s * s)
        (psi,) = AFFINE[method]((g * s,), (g * w,), False)
        ctx.save_for_backward(s, w, g, psi)
        ctx.method = method
        return psi

    @staticmethod
    def backward(ctx, gradient):
        s, w, g, psi = ctx.saved_tensors
        affine, factor, before = AFFINE[ctx.method], later(g * s), earlier(psi)
        (p,) = affine((factor,), (gradient,), True)
        (dg,) = affine((factor * factor,), ((p * (w + s * before)).sum(2, keepdim=True),), True)
        ddenominator, dw = -g * g * dg, g * p
        ds = (dw * before).sum(2, keepdim=True) - 2 * s * earlier(g) * ddenominator
        return ddenominator, ds, dw, None


def resolvent(v, method):
    """Features of one head. v: [B, T]; returns real and imaginary parts, [B, T] each."""
    if method == "triton":
        import gpu_triton

        return gpu_triton.resolvent(v.contiguous())
    re, im = Resolvent.apply(v.t().contiguous(), method)
    return re.t(), im.t()


def propagator(maps, heads, method):
    """Waves. maps: [T, B, 4H], hopping, barrier, source (2H) before their nonlinearities.

    Returns [T, B, 2H] in float32: real parts, then imaginary parts.
    """
    if method == "triton":
        import gpu_triton

        return gpu_triton.propagator(maps, heads)[0]
    split = maps.to(torch.promote_types(maps.dtype, torch.float32)).unflatten(-1, (4, heads))
    s = torch.sigmoid(split[..., :1, :])
    a = 1 + s * s + torch.nn.functional.softplus(split[..., 1:2, :])
    return Propagator.apply(a, s, (1 - s) * split[..., 2:, :], method).flatten(-2)
