"""Blocks of states in place of scalars: does the resolvent pay there? Mixers of equal parameters on two
tasks of memory, on a CPU. Results are in docs/LOG.md, "Blocks of states, with and without the resolvent".

    pip install torch numba numpy
    python benches/resolvent/blocks.py check
    python benches/resolvent/blocks.py run TOKENS copy,recall 1,2,3 a,b,c,d,e,f,g,h,r,t

a  scalar propagator, 64 heads            b  the same without the barrier
c  16 heads of 4 states, one barrier      d  the same without the barrier
r  as c, states turned by R each step     t  the same without the barrier
e  as r, barrier b_t k_t k_t' (a matrix)  f  the same without the barrier: as t, with more parameters
g  (Gram + z)^-1 on an outer product      h  the same without it: gated linear attention
"""

import itertools, math, sys, time
import numba, numpy as np, torch, torch.nn as nn, torch.nn.functional as F

torch.set_num_threads(1)
T, B, D, WEIGHT = 128, 20, 64, 10
jit = numba.njit(cache=True, fastmath=True)


# ---- two recurrences over n x n blocks (n = 1: scalars), with exact gradients; arrays are [B, T, heads, ...] ----
@jit
def riccati_f(A, s2, G):  # G_t = (A_t - s2_t G_{t-1})^-1, A_t symmetric positive; G_0 = 0
    n = A.shape[3]
    for b, t, h in np.ndindex(A.shape[:3]):
        P = G[b, t, h]  # Gauss-Jordan in place; no pivots are needed
        for i, j in np.ndindex(n, n):
            P[i, j] = A[b, t, h, i, j] - (s2[b, t, h] * G[b, t - 1, h, i, j] if t else 0.0)
        for c in range(n):
            r, P[c, c] = 1 / P[c, c], 1
            for j in range(n):
                P[c, j] *= r
            for i in range(n):
                if i != c:
                    f, P[i, c] = P[i, c], 0
                    for j in range(n):
                        P[i, j] -= f * P[c, j]


@jit
def riccati_b(A, s2, G, M, dA, ds2):  # M: gradient of G, changed in place; G is symmetric
    nb, nt, nh, n, _ = G.shape
    W = np.zeros((n, n), G.dtype)
    for b, back, h in np.ndindex(nb, nt, nh):
        t = nt - 1 - back
        W[:] = 0
        for i, j in np.ndindex(n, n):
            for k in range(n):
                W[i, j] += G[b, t, h, i, k] * M[b, t, h, k, j]
        for i, j in np.ndindex(n, n):  # dA = -G M G
            for k in range(n):
                dA[b, t, h, i, j] -= W[i, k] * G[b, t, h, k, j]
            if t:
                M[b, t - 1, h, i, j] -= s2[b, t, h] * dA[b, t, h, i, j]
                ds2[b, t, h] -= dA[b, t, h, i, j] * G[b, t - 1, h, i, j]


@jit
def scan_f(C, d, x):  # x_t = C_t x_{t-1} + d_t, C n x n or 1 x 1 (a number)
    n = d.shape[3]
    for b, t, h in np.ndindex(d.shape[:3]):
        x[b, t, h] = d[b, t, h]
        if t and C.shape[3] == 1:
            for i in range(n):
                x[b, t, h, i] += C[b, t, h, 0, 0] * x[b, t - 1, h, i]
        elif t:
            for i, j in np.ndindex(n, n):
                x[b, t, h, i] += C[b, t, h, i, j] * x[b, t - 1, h, j]


@jit
def scan_b(C, d, x, l, dC, dd):  # l: gradient of x, becomes that of d
    nb, nt, nh, n = x.shape
    for b, back, h in np.ndindex(nb, nt - 1, nh):
        t = nt - 1 - back
        if C.shape[3] == 1:
            for i in range(n):
                dC[b, t, h, 0, 0] += l[b, t, h, i] * x[b, t - 1, h, i]
                l[b, t - 1, h, i] += C[b, t, h, 0, 0] * l[b, t, h, i]
        else:
            for i, j in np.ndindex(n, n):
                dC[b, t, h, i, j] = l[b, t, h, i] * x[b, t - 1, h, j]
                l[b, t - 1, h, j] += C[b, t, h, i, j] * l[b, t, h, i]
    dd[:] = l


num = lambda *xs: [x.detach().contiguous().numpy() for x in xs]


def op(forward_, backward_, like):  # a differentiable function of two tensors, shaped as one of them
    class Op(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *xs):
            forward_(*num(*xs, out := torch.empty(xs[like].shape, dtype=xs[like].dtype)))
            ctx.save_for_backward(*xs, out)
            return out

        @staticmethod
        def backward(ctx, g):
            x, y, out = ctx.saved_tensors
            dx, dy = torch.zeros(x.shape, dtype=g.dtype), torch.zeros(y.shape, dtype=g.dtype)
            backward_(*num(x, y, out, g.clone(memory_format=torch.contiguous_format), dx, dy))
            return dx, dy

    return Op.apply


riccati, scan = op(riccati_f, riccati_b, 0), op(scan_f, scan_b, 1)


def turn(x, angle, sign):  # R^(sign t) x_t, R two rotations of two states each; angle [H, 2]
    p = sign * angle * torch.arange(x.shape[1], dtype=x.dtype)[:, None, None]
    (c, s), (y, z) = (p.cos(), p.sin()), x.chunk(2, -1)
    return torch.cat([c * y - s * z, s * y + c * z], -1)


def propagate(s, u, b=None, k=None, angle=None):
    """psi_t = G_t (u_t + s_t R psi_{t-1}), G_t = ((1 + s_t^2) I + b_t k_t k_t' - s_t^2 R G_{t-1} R')^-1, s_1 = 0.
    s, b [B,T,H]; u, k [B,T,H,n]; without k the barrier is b_t I; without b it is 0 and G_t = I. R goes into the frame R^-t psi.
    """
    s = torch.cat([s[:, :1] * 0, s[:, 1:]], 1)
    if angle is not None:
        u, k = turn(u, angle, -1), k if k is None else turn(k, angle, -1)
    s1 = s[..., None, None]
    if b is None:
        psi = scan(s1, u)
    elif k is None:
        g = riccati(1 + s1 * s1 + b[..., None, None], s * s)
        psi = scan(g * s1, g[..., 0] * u)
    else:
        G = riccati(
            (1 + s1 * s1) * torch.eye(u.shape[-1], dtype=u.dtype)
            + (b[..., None] * k)[..., None] * k[..., None, :],
            s * s,
        )
        psi = scan(G * s1, (G * u[..., None, :]).sum(-1))
    return psi if angle is None else turn(psi, angle, 1)


def squares(s, b, q, k, v, z=None):
    """q_t' (S_t + z)^-1 M_t with S_t = s S + b k k', M_t = s M + b k v': ridge regression of v on k, the resolvent of the
    Gram matrix at -z (recursive least squares with forgetting). z None: q_t' M_t, gated linear attention."""
    run = lambda y: scan(s[..., None, None], y.flatten(3)).view_as(y)
    bk = (b[..., None] * k)[..., None]
    M = run(bk * v[..., None, :])
    if z is not None:
        q = torch.linalg.solve(
            run(bk * k[..., None, :]) + z[:, None, None] * torch.eye(k.shape[-1], dtype=k.dtype), q
        )
    return (q[..., None] * M).sum(-2)


class Mixer(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, lin = kind, lambda o: nn.Linear(D, o)
        self.H, self.n = {"a": (64, 1), "b": (64, 1), "g": (4, 8), "h": (4, 8)}.get(kind, (16, 4))
        W = self.H * self.n
        self.s, self.b, self.u, self.gate, self.out, self.norm = (
            lin(self.H),
            lin(self.H),
            lin(W),
            lin(W),
            nn.Linear(W, D),
            nn.RMSNorm(W),
        )
        self.s.bias.data = torch.linspace(-1, 3, self.H)
        self.b.weight.data *= 0.1
        self.b.bias.data.fill_({"e": -2.0, "g": 0.0, "h": 0.0}.get(kind, -4.0))
        if kind in "efgh":
            self.k = lin(W)
        if kind in "efrt":
            self.angle = nn.Parameter(0.3 * torch.randn(self.H, 2))
        if kind in "gh":
            self.q = lin(W)
        if kind == "g":
            self.z = nn.Parameter(torch.full((self.H,), math.log(0.2)))

    def forward(self, x):
        heads = lambda y: y.view(*y.shape[:2], self.H, self.n)
        s, u = torch.sigmoid(self.s(x)), heads(self.u(x))
        k = F.normalize(heads(self.k(x)), dim=-1) if self.kind in "efgh" else None
        b = (
            None
            if self.kind in "bdft"
            else torch.sigmoid(self.b(x)) if self.kind in "gh" else F.softplus(self.b(x))
        )
        if self.kind in "gh":
            y = squares(
                s, b, F.normalize(heads(self.q(x)), dim=-1), k, u, self.z.exp() if self.kind == "g" else None
            )
        else:
            y = propagate(
                s,
                (1 - s)[..., None] * u,
                b,
                k if self.kind == "e" else None,
                self.angle if self.kind in "efrt" else None,
            )
        return self.out(self.norm(y.flatten(2)) * F.silu(self.gate(x)))


class Model(nn.Module):  # two blocks, tied head; the feed-forward makes up for smaller mixers
    def __init__(self, kind, V):
        super().__init__()
        self.emb = nn.Embedding(V, D)
        nn.init.normal_(self.emb.weight, std=D**-0.5)
        self.mix = nn.ModuleList(Mixer(kind) for _ in range(2))
        F_ = 128 + round((21000 - sum(p.numel() for p in self.mix[0].parameters())) / 129)
        self.ffn = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(D), nn.Linear(D, F_), nn.GELU(), nn.Linear(F_, D)) for _ in range(2)
        )
        self.ln = nn.ModuleList(nn.LayerNorm(D) for _ in range(3))

    def forward(self, t):
        h = self.emb(t)
        for m, l, f in zip(self.mix, self.ln, self.ffn):
            h = (y := h + m(l(h))) + f(y)
        return self.ln[2](h) @ self.emb.weight.T


def text(task, tokens, rng):
    """Tokens, the entropy of each for who remembers all, how far back its source lies (0: none). Lines of 14 with their end."""
    n, i = tokens // 14 + 1, np.arange(tokens // 14 + 1)
    if task == "copy":  # 32 symbols, bar 32, end 33
        line = np.hstack([w := rng.integers(0, 32, (n, 6)), np.full((n, 1), 32), w, np.full((n, 1), 33)])
        free, back = [32] * 6 + [1] * 8, np.tile([0] * 7 + [7] * 6 + [0], (n, 1))
    else:  # keys 0-31 (five different ones), values 32-63, ? 64, end 65
        k, v, q = rng.random((n, 32)).argsort(1)[:, :5], rng.integers(32, 64, (n, 5)), rng.integers(0, 5, n)
        line = np.hstack(
            [
                np.stack([k, v], 2).reshape(n, 10),
                np.full((n, 1), 64),
                k[i, q][:, None],
                v[i, q][:, None],
                np.full((n, 1), 65),
            ]
        )
        free, back = [32, 32, 31, 32, 30, 32, 29, 32, 28, 32, 1, 5, 1, 1], np.zeros((n, 14), int)
        back[:, 12] = 12 - 2 * q  # the key before the value
    return [np.ascontiguousarray(x.reshape(-1)[:tokens]) for x in (line, np.tile(np.log(free), (n, 1)), back)]


def windows(task, tokens, rng):
    x, free, back = (torch.from_numpy(y[: (tokens - 1) // T * T + 1]) for y in text(task, tokens, rng))
    cut = lambda y: y[1:].view(-1, T)
    known = (cut(back) > 0) & (
        torch.arange(T) + 1 >= cut(back)
    )  # the source lies in the window: its state is reset
    lost = (cut(back) > 0) & ~known
    return (
        x[:-1].view(-1, T),
        cut(x),
        cut(free) + lost * math.log(32),
        cut(free) + (cut(back) > 0) * math.log(32),
        known,
    )


def train(kind, task, seed, tokens):
    rng, _ = np.random.default_rng([seed, task == "copy"]), torch.manual_seed(seed)
    X, Y, _, _, weight = windows(task, tokens, rng)
    weight = 1 + (WEIGHT - 1) * weight  # tokens that memory can tell count WEIGHT times in the loss
    VX, VY, best, blind, known = windows(task, 30000, rng)
    model = Model(kind, 34 if task == "copy" else 66)
    n, start = len(X) // B, time.time()
    opt = torch.optim.AdamW(model.parameters(), 3e-3)
    sched = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda i: min(1, (i + 1) / 20) * 0.5 * (1 + math.cos(math.pi * i / n))
    )
    for i in range(n):
        opt.zero_grad()
        part = slice(i * B, (i + 1) * B)
        (
            (
                F.cross_entropy(model(X[part]).flatten(0, 1), Y[part].flatten(), reduction="none")
                * weight[part].flatten()
            ).mean()
        ).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step(), sched.step()
    with torch.no_grad():
        out = torch.cat([model(x) for x in VX.split(B)])
    ppl = F.cross_entropy(out.flatten(0, 1), VY.flatten()).exp().item()
    acc = (out.argmax(-1) == VY)[known].float().mean().item()
    size, state = (
        sum(p.numel() for p in model.parameters()),
        {"a": 128, "b": 64, "c": 80, "d": 64, "e": 224, "f": 64, "r": 80, "t": 64, "g": 400, "h": 256}[kind],
    )
    return (
        f"{task:6} {kind} seed {seed}: valid {ppl:6.2f}  known tokens right {100 * acc:5.1f} %  (best {best.mean().exp():.2f}, blind {blind.mean().exp():.2f};"
        f" {size} parameters, {state} state floats a block, {n} steps, {time.time() - start:.0f} s)"
    )


def check():  # against dense inverses, and the gradients by differences
    r, (b, t, h, n) = lambda *s: torch.rand(*s, dtype=torch.float64), (2, 7, 3, 4)
    s, bar, u, k, angle, v, z = (
        r(b, t, h),
        r(b, t, h),
        r(b, t, h, n) - 0.5,
        F.normalize(r(b, t, h, n) - 0.5, dim=-1),
        3 * r(h, 2),
        r(b, t, h, 3),
        r(h),
    )
    R, e, zero = (
        turn(torch.eye(n).double()[:, None, None].expand(n, 2, h, n), angle, 1)[:, 1].permute(1, 2, 0),
        torch.eye(n).double(),
        bar * 0,
    )
    for kk, a, bb in [(k, angle, bar), (None, None, bar), (k, angle, zero), (None, angle, zero)]:
        psi = propagate(s, u, bb, kk, a)
        if bb is zero:
            assert torch.allclose(psi, propagate(s, u, None, None, a))
        for i, j, last in np.ndindex(b, h, t):
            H = torch.zeros(t, n, t, n).double()  # the block-tridiagonal matrix; its leading part, last row
            for m in range(t):
                sm, Rj = s[i, m, j] * (m > 0), e if a is None else R[j]
                H[m, :, m] = (1 + sm**2) * e + bb[i, m, j] * (
                    e if kk is None else torch.outer(k[i, m, j], k[i, m, j])
                )
                if m:
                    H[m, :, m - 1], H[m - 1, :, m] = -sm * Rj, -sm * Rj.T
            c = (last + 1) * n
            assert torch.allclose(
                psi[i, last, j],
                (H.view(t * n, t * n)[:c, :c].inverse() @ u[i, :, j].flatten()[:c])[-n:],
                atol=1e-10,
            )
    K, w = (
        k[0, :, 0],
        torch.stack([bar[0, m, 0] * s[0, m + 1 :, 0].prod() for m in range(t)])[:, None],
    )  # ridge regression with the weights w
    assert torch.allclose(
        squares(s, bar, u, k, v, z)[0, -1, 0],
        u[0, -1, 0] @ torch.linalg.solve(K.T @ (w * K) + z[0] * e, K.T @ (w * v[0, :, 0])),
        atol=1e-10,
    )
    grad = [x.requires_grad_() for x in (s, u, bar, k, angle)]
    assert all(torch.autograd.gradcheck(propagate, grad[:m]) for m in (2, 3, 5)) and torch.autograd.gradcheck(
        squares, (s, bar, u, k, v, z)
    )
    print("checks pass")


if __name__ == "__main__":
    if sys.argv[1] == "check":
        check()
    else:
        for task, seed, kind in itertools.product(*(a.split(",") for a in sys.argv[3:6])):
            print(train(kind, task, int(seed), int(sys.argv[2])), flush=True)
