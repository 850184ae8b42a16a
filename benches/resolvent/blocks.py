"""Blocks of states in place of scalars: does the resolvent pay there? Mixers of equal parameters on
tasks of memory. Results are in docs/LOG.md, "Blocks of states, with and without the resolvent" and "Recall that is learned".

    pip install torch numpy    # and a C++ compiler, or nvcc where there is a GPU
    python benches/resolvent/blocks.py check
    python benches/resolvent/blocks.py run TOKENS copy,recall,recalls 1,2,3 a,b,c,d,e,f,g,h,r,t,l,s [WINDOWS A BATCH]

a  scalar propagator, 64 heads            b  the same without the barrier
c  16 heads of 4 states, one barrier      d  the same without the barrier
r  as c, states turned by R each step     t  the same without the barrier
e  as r, barrier b_t k_t k_t' (a matrix)  f  the same without the barrier: as t, with more parameters
g  (Gram + z)^-1 on an outer product      h  the same without it: gated linear attention
l  LSTM of 64                             s  softmax attention, 4 heads of 16, rotary positions
"""

import ctypes, itertools, math, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F

torch.set_num_threads(1)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
T, D, WEIGHT, SYMBOLS = 128, 64, 10, 32


def library():  # chains.cu, compiled for the device
    made = Path(tempfile.mkdtemp()) / "chains.so"
    compiler = (
        "nvcc -arch=native --extended-lambda -Xcompiler -fPIC"
        if DEVICE == "cuda"
        else "c++ -x c++ -march=native -ffast-math -fPIC"
    )
    source = Path(__file__).with_name("chains.cu")
    subprocess.run([*compiler.split(), "-O3", "-shared", "-o", made, source], check=True)
    return ctypes.CDLL(str(made))


LIBRARY = library()


def call(name, shape, *tensors):  # shape [B, T, heads, n, ...] of contiguous tensors of one type
    b, t, h, n = shape[:4]
    stream = torch.cuda.current_stream().cuda_stream if DEVICE == "cuda" else 0
    getattr(LIBRARY, f"{name}_{n}{'d' if tensors[0].dtype == torch.float64 else 'f'}")(
        *map(ctypes.c_long, (b * h, t, h)), *(ctypes.c_void_p(x.data_ptr()) for x in tensors), ctypes.c_void_p(stream)
    )


class Riccati(torch.autograd.Function):  # G_t = (A_t - s2_t G_{t-1})^-1 for A [B,T,H,n,n], s2 [B,T,H]
    @staticmethod
    def forward(ctx, A, s2):
        A, s2 = A.contiguous(), s2.contiguous()
        G = torch.empty_like(A)
        call("riccati_forward", A.shape, A, s2, G)
        ctx.save_for_backward(s2, G)
        return G

    @staticmethod
    def backward(ctx, dG):
        s2, G = ctx.saved_tensors
        dA, ds2 = torch.empty_like(G), torch.empty_like(s2)
        call("riccati_backward", G.shape, s2, G, dG.contiguous(), dA, ds2)
        return dA, ds2


class Scan(torch.autograd.Function):  # x_t = C_t x_{t-1} + d_t for C [B,T,H,n,n], d [B,T,H,n]
    @staticmethod
    def forward(ctx, C, d):
        C, d = C.contiguous(), d.contiguous()
        x = torch.empty_like(d)
        call("scan_forward", d.shape, C, d, x)
        ctx.save_for_backward(C, x)
        return x

    @staticmethod
    def backward(ctx, dx):
        C, x = ctx.saved_tensors
        dC, dd = torch.empty_like(C), torch.empty_like(x)
        call("scan_backward", x.shape, C, x, dx.contiguous(), dC, dd)
        return dC, dd


riccati = Riccati.apply


def scan(C, d):  # C n x n, or 1 x 1: a number, each state is a chain of its own
    if C.shape[3] == 1:
        return Scan.apply(C[..., 0].expand_as(d).flatten(2)[..., None, None], d.flatten(2)[..., None]).view_as(d)
    return Scan.apply(C, d)


def turn(x, angle, sign):  # R^(sign t) x_t, R two rotations of two states each; angle [H, 2]
    p = sign * angle * torch.arange(x.shape[1], dtype=x.dtype, device=x.device)[:, None, None]
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
            (1 + s1 * s1) * torch.eye(u.shape[-1], dtype=u.dtype, device=u.device)
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
        gram = run(bk * k[..., None, :]) + z[:, None, None] * torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
        inverse = riccati(gram.flatten(0, 1)[:, None], torch.zeros_like(s).flatten(0, 1)[:, None]).view_as(gram)
        q = (inverse * q[..., None, :]).sum(-1)
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


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(D, D, batch_first=True), nn.Linear(D, D)

    def forward(self, x):
        return self.out(self.lstm(x)[0])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.register_buffer("angle", (1e-4 ** torch.linspace(0, 1, 8)).expand(4, 8))

    def forward(self, x):
        q, k, v = (y.view(*x.shape[:2], 4, 16) for y in self.qkv(x).chunk(3, -1))
        q, k = turn(q, self.angle, 1), turn(k, self.angle, 1)
        y = F.scaled_dot_product_attention(*(y.transpose(1, 2) for y in (q, k, v)), is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class Model(nn.Module):  # two blocks, tied head; the feed-forward makes up for smaller mixers
    def __init__(self, kind, V):
        super().__init__()
        self.emb = nn.Embedding(V, D)
        nn.init.normal_(self.emb.weight, std=D**-0.5)
        self.mix = nn.ModuleList(
            Lstm() if kind == "l" else Attention() if kind == "s" else Mixer(kind) for _ in range(2)
        )
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


QUESTIONS = {"copy": 0, "recall": 1, "recalls": 5}  # a line


def text(task, tokens, rng):
    """Tokens, the entropy of each for who remembers all, how far back its source lies (0: none). Lines of 14, of
    recalls 22, with their end."""
    asked, S = QUESTIONS[task], SYMBOLS
    width = 12 + 2 * max(1, asked)
    n = tokens // width + 1
    column = lambda symbol: np.full((n, 1), symbol)
    if task == "copy":  # symbols, bar S, end S + 1
        line = np.hstack([w := rng.integers(0, S, (n, 6)), column(S), w, column(S + 1)])
        free, back = [S] * 6 + [1] * 8, np.tile([0] * 7 + [7] * 6 + [0], (n, 1))
    else:  # keys from 0 on (five different ones), values from S on, ? 2 S, one of the keys or all of them again, end 2 S + 1
        k, v = rng.random((n, S)).argsort(1)[:, :5], rng.integers(S, 2 * S, (n, 5))
        q = rng.integers(0, 5, (n, 1)) if asked == 1 else rng.random((n, 5)).argsort(1)
        pairs = lambda *p: np.stack(p, 2).reshape(n, -1)
        line = np.hstack(
            [pairs(k, v), column(2 * S), pairs(np.take_along_axis(k, q, 1), np.take_along_axis(v, q, 1)), column(2 * S + 1)]
        )
        free = [x for j in range(5) for x in (S - j, S)] + [1] + [x for j in range(asked) for x in (5 - j, 1)] + [1]
        back = np.zeros((n, width), int)
        back[:, 12:-1:2] = 12 + 2 * np.arange(asked) - 2 * q  # the key before the value
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
        cut(free) + lost * math.log(SYMBOLS),
        cut(free) + (cut(back) > 0) * math.log(SYMBOLS),
        known,
    )


def schedule(step, steps):  # the learning rate: warm-up, then a cosine
    return 3e-3 * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))


def train(kind, task, seed, tokens, batch):
    rng, _ = np.random.default_rng([seed, task == "copy"]), torch.manual_seed(seed)
    VX, VY, best, blind, known = windows(task, 30000, rng)
    model = Model(kind, (SYMBOLS if task == "copy" else 2 * SYMBOLS) + 2).to(DEVICE)
    x, y, weight = (torch.zeros(batch, T, dtype=kind_, device=DEVICE) for kind_ in (torch.long, torch.long, torch.float))
    rate = torch.tensor(0.0, device=DEVICE)
    opt = torch.optim.AdamW(model.parameters(), rate, capturable=DEVICE == "cuda")

    def step():
        opt.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="none")
        (loss * weight.flatten()).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()

    n, start, graph = tokens // (batch * T), time.time(), None
    for i in range(n):
        if i % 100 == 0:  # new text, never the same
            X, Y, _, _, mask = windows(task, 100 * batch * T + 1, rng)
            X, Y, mask = (z.to(DEVICE) for z in (X, Y, mask))
        part = slice(i % 100 * batch, (i % 100 + 1) * batch)
        x.copy_(X[part]), y.copy_(Y[part])
        weight.copy_(1 + (WEIGHT - 1) * mask[part])  # tokens that memory can tell count WEIGHT times
        rate.fill_(schedule(i, n))
        if DEVICE == "cuda" and i == 5:
            graph = torch.cuda.CUDAGraph()
            opt.zero_grad()
            with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
                step()
        graph.replay() if graph else step()
    with torch.no_grad():
        out = torch.cat([model(part.to(DEVICE)) for part in VX.split(batch)]).cpu()
    ppl = F.cross_entropy(out.flatten(0, 1), VY.flatten()).exp().item()
    acc = (out.argmax(-1) == VY)[known].float().mean().item()
    size = sum(p.numel() for p in model.parameters())
    state = {"a": 128, "b": 64, "c": 80, "e": 224, "r": 80, "g": 400, "h": 256, "l": 128, "s": 2 * T * D}.get(kind, 64)
    return (
        f"{task:7} {kind} seed {seed}: valid {ppl:6.2f}  known tokens right {100 * acc:5.1f} %  (best {best.mean().exp():.2f}, blind {blind.mean().exp():.2f};"
        f" {size} parameters, {state} state floats a block, {n} steps, {time.time() - start:.0f} s)"
    )


def check():  # against dense inverses, and the gradients by differences
    torch.set_default_device(DEVICE)
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
            with torch.cuda.stream(torch.cuda.Stream() if DEVICE == "cuda" else None):
                print(train(kind, task, int(seed), int(sys.argv[2]), int(sys.argv[6]) if sys.argv[6:] else 20), flush=True)
