"""The seed model's training step in PyTorch: the same layers, sizes, loss and optimizer as `resnet-bk bench step`.

    x + layer(LayerNorm(x))     layer: top-1 experts f, potential v = clamp(W f), resolvent features, f + scale * (W' features)
"""

import math

import torch
from torch import nn
from torch.nn import functional

VOCABULARY, WIDTH, BLOCKS, LENGTH, EXPERTS, HIDDEN = 30_000, 64, 4, 128, 4, 128
BATCH = 20
POTENTIAL_LIMIT, FEATURE_LIMIT, DIAGONAL, ETA, DROPOUT = 3.0, 10.0, -2.0, 1.0, 0.1


class Resolvent(torch.autograd.Function):
    """g_t = 1 / (a_t - i eta - g_{t-1}) for all sequences at once, with its exact backward; v is [B, T]."""

    @staticmethod
    def forward(ctx, v):
        shifted = (v + DIAGONAL).to(torch.complex64) - 1j * ETA
        ratios = torch.empty_like(shifted)
        g = torch.zeros(v.shape[0], dtype=torch.complex64)
        for t in range(v.shape[1]):
            g = 1 / (shifted[:, t] - g)
            ratios[:, t] = g
        ctx.save_for_backward(ratios)
        return torch.stack([ratios.real, ratios.imag], dim=-1)

    @staticmethod
    def backward(ctx, gradient):
        (ratios,) = ctx.saved_tensors
        u = torch.complex(gradient[..., 0], -gradient[..., 1])
        squares = ratios * ratios
        x = torch.empty_like(ratios)
        carry = torch.zeros(ratios.shape[0], dtype=torch.complex64)
        for t in reversed(range(ratios.shape[1])):
            carry = (u[:, t] + carry) * squares[:, t]
            x[:, t] = carry
        return -x.real


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.router = nn.Linear(WIDTH, EXPERTS)
        self.up = nn.ModuleList(nn.Linear(WIDTH, HIDDEN) for _ in range(EXPERTS))
        self.down = nn.ModuleList(nn.Linear(HIDDEN, WIDTH) for _ in range(EXPERTS))
        self.potential = nn.Linear(WIDTH, 1)
        self.output = nn.Linear(2, WIDTH)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        normed = self.norm(x)
        flat = normed.reshape(-1, WIDTH)
        probabilities = self.router(flat).softmax(-1)
        weight, chosen = probabilities.max(-1)
        mixed = torch.zeros_like(flat)
        for expert in range(EXPERTS):
            tokens = (chosen == expert).nonzero().squeeze(-1)
            hidden = functional.dropout(functional.relu(self.up[expert](flat[tokens])), DROPOUT, self.training)
            # Straight through: the weight is one, its gradient that of the probability.
            gate = (1 + weight[tokens] - weight[tokens].detach()).unsqueeze(-1)
            mixed = mixed.index_add(0, tokens, self.down[expert](hidden) * gate)
        ffn = mixed.reshape(x.shape)
        v = self.potential(ffn).squeeze(-1).clamp(-POTENTIAL_LIMIT, POTENTIAL_LIMIT)
        features = Resolvent.apply(v).clamp(-FEATURE_LIMIT, FEATURE_LIMIT)
        return x + ffn + self.scale * self.output(features)


class SeedModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(WIDTH))
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions.weight
        x = functional.dropout(x, DROPOUT, self.training)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
