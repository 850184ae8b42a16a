"""The models whose steps are timed, under bf16 autocast with float32 parameters.

    seed                 x + ffn + scale W [Re g, Im g],  ffn = experts(LayerNorm(x))       4 blocks
    teacher, student     x + mixer(LayerNorm(x)), then x + ffn(LayerNorm(x))     propagator, 3 and 2 blocks

The seed is `recipes/seed.toml`'s first stage. Teacher and student are those of the study in
DESIGN.md ("the study: propagator"). Maps of one input are one product.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from gpu_losses import cross_entropy, distillation
from gpu_recurrences import propagator, resolvent

POTENTIAL_LIMIT, FEATURE_LIMIT, LOAD_BALANCING = 3.0, 10.0, 0.01


def autocast(device):
    return torch.autocast(device.type, torch.bfloat16)


class Experts(nn.Module):
    """Top-1 experts: all experts for every token and a mask (`dense`), or each expert for its tokens (`gather`).

    The gate is one; its gradient is that of the chosen probability (straight through).
    """

    def __init__(self, width, hidden, experts, dropout, way):
        super().__init__()
        self.router = nn.Linear(width, experts)
        self.up = nn.Linear(width, experts * hidden)
        self.down = nn.Parameter((2 * torch.rand(experts * hidden, width) - 1) / math.sqrt(hidden))
        self.bias = nn.Parameter(torch.zeros(experts, width))
        self.experts, self.dropout, self.way = experts, dropout, way
        # A vector in the Rust model, so that it does not decay.
        self.bias.decays = False

    def forward(self, x):
        """x: [n, D]; returns [n, D] and the load-balancing loss."""
        probabilities = self.router(x).float().softmax(-1)
        largest, chosen = probabilities.max(-1)
        gate = 1 + largest - largest.detach()
        routed = (chosen[:, None] == torch.arange(self.experts, device=x.device)).float()
        balance = self.experts * (routed.mean(0) * probabilities.mean(0)).sum()
        mixed = self.dense(x, routed * gate[:, None]) if self.way == "dense" else self.gather(x, chosen, gate)
        return mixed, balance

    def dense(self, x, gates):
        hidden = functional.dropout(functional.relu(self.up(x)), self.dropout, self.training)
        masked = hidden.unflatten(-1, (self.experts, -1)) * gates.to(hidden.dtype)[..., None]
        return masked.flatten(-2) @ self.down + gates @ self.bias

    def gather(self, x, chosen, gate):
        mixed = torch.zeros_like(x)
        weights = zip(self.up.weight.chunk(self.experts), self.up.bias.chunk(self.experts), self.down.chunk(self.experts))
        for expert, (up, up_bias, down) in enumerate(weights):
            tokens = (chosen == expert).nonzero().squeeze(-1)
            hidden = functional.relu(functional.linear(x[tokens], up, up_bias))
            hidden = functional.dropout(hidden, self.dropout, self.training)
            out = (hidden @ down + self.bias[expert]) * gate[tokens, None]
            mixed = mixed.index_add(0, tokens, out.to(mixed.dtype))
        return mixed


class DiagonalBlock(nn.Module):
    def __init__(self, width, hidden, experts, dropout, way, recurrence):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.experts = Experts(width, hidden, experts, dropout, way)
        self.potential = nn.Linear(width, 1)
        self.output = nn.Linear(2, width)
        self.scale = nn.Parameter(torch.ones(1))
        self.recurrence = recurrence

    def forward(self, x, batch):
        """x: [B T, D]"""
        ffn, balance = self.experts(self.norm(x))
        v = self.potential(ffn).float().clamp(-POTENTIAL_LIMIT, POTENTIAL_LIMIT).view(batch, -1)
        features = torch.stack(resolvent(v, self.recurrence), -1).view(-1, 2)
        features = features.clamp(-FEATURE_LIMIT, FEATURE_LIMIT)
        return x + (ffn + self.scale * self.output(features)), balance


class Seed(nn.Module):
    def __init__(self, recurrence, loss="torch", experts="dense", vocabulary=30_000, width=64, blocks=4, length=128):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        block = lambda: DiagonalBlock(width, 2 * width, 4, 0.1, experts, recurrence)
        self.blocks = nn.ModuleList(block() for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        for table in (self.embedding, self.head):
            nn.init.normal_(table.weight, std=width**-0.5)
        self.loss_kernel = loss

    def loss(self, inputs, targets):
        with autocast(inputs.device):
            x = self.embedding(inputs) + self.positions
            x = functional.dropout(x, 0.2, self.training).flatten(0, 1)
            balance = 0
            for block in self.blocks:
                x, term = block(x, inputs.shape[0])
                balance = balance + term
            head = self.norm(x), self.head.weight, self.head.bias
            return cross_entropy(*head, targets.flatten(), self.loss_kernel) + LOAD_BALANCING * balance


def fake_quantize(weight, log_scale, qmax):
    """Rounds to `2 qmax + 1` levels with learned scales; straight through where it is not clipped."""
    scale = log_scale.exp()
    x = (weight / scale).clamp(-qmax, qmax)
    return (x + (x.round() - x).detach()) * scale


class Weight(nn.Module):
    """A matrix; with `qmax`, rounded by learned scales, each shared along dimension `shared`."""

    def __init__(self, weight, qmax, shared=0):
        super().__init__()
        self.weight, self.qmax = nn.Parameter(weight), qmax
        if qmax:
            size = weight.abs().mean(shared, keepdim=True)
            self.log_scale = nn.Parameter((2 * size / math.sqrt(qmax)).log())
            self.log_scale.decays = False

    def forward(self):
        return fake_quantize(self.weight, self.log_scale, self.qmax) if self.qmax else self.weight


class Linear(nn.Module):
    def __init__(self, inputs, outputs, qmax=None):
        super().__init__()
        plain = nn.Linear(inputs, outputs)
        self.weight, self.bias = Weight(plain.weight.detach(), qmax, shared=1), plain.bias

    def forward(self, x):
        return functional.linear(x, self.weight(), self.bias)


class PropagatorMixer(nn.Module):
    """W_o RMSNorm(psi) * silu(W_g x); the first map gives hopping, barrier, source and gate."""

    def __init__(self, width, heads, qmax, recurrence):
        super().__init__()
        self.maps, self.output = Linear(width, 4 * heads + width, qmax), Linear(2 * heads, width, qmax)
        self.norm = nn.Parameter(torch.ones(2 * heads))
        self.heads, self.recurrence = heads, recurrence
        with torch.no_grad():
            self.maps.bias[:heads] = torch.linspace(-1, 3, heads)
            self.maps.bias[heads : 2 * heads] -= 4
            self.maps.weight.weight[heads : 2 * heads] *= 0.2

    def forward(self, x):
        """x: [T, B, D]"""
        maps, gate = self.maps(x).split([4 * self.heads, x.shape[-1]], -1)
        waves = propagator(maps, self.heads, self.recurrence)
        waves = functional.rms_norm(waves, waves.shape[-1:], self.norm, 1e-5)
        return self.output(waves) * functional.silu(gate)


class PropagatorBlock(nn.Module):
    def __init__(self, width, heads, hidden, dropout, qmax, recurrence):
        super().__init__()
        self.norm, self.ffn_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixer = PropagatorMixer(width, heads, qmax, recurrence)
        self.up, self.down = Linear(width, hidden, qmax), Linear(hidden, width, qmax)
        self.dropout = dropout

    def forward(self, x):
        drop = lambda y: functional.dropout(y, self.dropout, self.training)
        x = x + drop(self.mixer(self.norm(x)))
        return x + drop(self.down(functional.relu(self.up(self.ffn_norm(x)))))


class PropagatorModel(nn.Module):
    """`bins`: (words, width, qmax) of a table with rows of several widths; qmax counts where `quantized`."""

    def __init__(
        self, recurrence, loss="torch", vocabulary=30_000, width=256, blocks=3, heads=384, bins=None,
        quantized=None, dropout=0.3, embedding_dropout=0.4, head_dropout=0.4, word_dropout=0.1,
    ):  # fmt: skip
        super().__init__()
        on = lambda qmax: qmax if quantized else None
        if bins:
            self.table = nn.ModuleList(Weight(0.1 * torch.randn(n, k), on(q)) for n, k, q in bins)
            self.up = nn.ModuleList(Weight(0.3 * k**-0.5 * torch.randn(k, width), on(15)) for _, k, _ in bins)
        else:
            self.table, self.up = nn.ModuleList([Weight(0.02 * torch.randn(vocabulary, width), None)]), None
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        block = lambda: PropagatorBlock(width, heads, 2 * width, dropout, on(7), recurrence)
        self.blocks = nn.ModuleList(block() for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.embedding_dropout, self.head_dropout = embedding_dropout, head_dropout
        self.word_dropout, self.loss_kernel = word_dropout, loss

    def rows(self):
        if self.up is None:
            return self.table[0]()
        return torch.cat([rows() @ up() for rows, up in zip(self.table, self.up)])

    def hidden(self, inputs):
        """inputs: [B, T]; returns hidden states [T B, D], time first, and the table [V, D]."""
        inputs, table = inputs.t(), self.rows()
        x = functional.embedding(inputs, table).float()
        if self.training and self.word_dropout:
            kept = (torch.rand(table.shape[0], 1, device=x.device) > self.word_dropout).float()
            x = x * kept[inputs] / (1 - self.word_dropout)
        x = functional.dropout(x, self.embedding_dropout, self.training)
        for block in self.blocks:
            x = block(x)
        return functional.dropout(self.norm(x), self.head_dropout, self.training).flatten(0, 1), table

    def loss(self, inputs, targets):
        with autocast(inputs.device):
            return cross_entropy(*self.hidden(inputs), self.bias, targets.t().flatten(), self.loss_kernel)


class Distilled(nn.Module):
    """A student and its teacher, which is frozen; the teacher's matrices are kept in bf16."""

    def __init__(self, student, teacher):
        super().__init__()
        self.student, self.teacher = student, teacher.requires_grad_(False)
        for parameter in teacher.parameters():
            if parameter.dim() > 1:
                parameter.data = parameter.data.bfloat16()

    def loss(self, inputs, targets):
        with autocast(inputs.device):
            with torch.no_grad():
                teacher = *self.teacher.hidden(inputs), self.teacher.bias
            student = *self.student.hidden(inputs), self.student.bias
            return distillation(*student, teacher, targets.t().flatten(), self.student.loss_kernel)


def train_mode(model):
    model.train()
    if isinstance(model, Distilled):
        model.teacher.eval()
    return model


class Head(nn.Module):
    """The head's loss alone; hidden states are a parameter so that they get a gradient."""

    def __init__(self, loss="torch", tokens=2_560, width=64, vocabulary=30_000):
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(tokens, width))
        self.weight = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.loss_kernel = loss

    def loss(self, _, targets):
        with autocast(targets.device):
            return cross_entropy(self.hidden, self.weight, self.bias, targets.flatten(), self.loss_kernel)
