"""Single components in a training loop of one's own: a quantizer, a pruner and a distillation loss.

The model is a table of logits, a row for each previous word. It learns from a teacher and from drawn
text, with 4-bit weights of which half are zero. Any framework can take NumPy's place.

    python own_loop.py
"""

import numpy as np

import resnet_bk

WORDS, TOKENS, STEPS = 40, 2048, 120

random = np.random.default_rng(1)
# A few large logits in each row.
teacher = random.normal(size=(WORDS, WORDS)).astype(np.float32) ** 3
weights = 0.1 * random.normal(size=(WORDS, WORDS)).astype(np.float32)
keep = np.ones_like(weights, dtype=bool)
losses = []
for step in range(STEPS):
    if step == STEPS // 2:
        keep = resnet_bk.prune_mask(weights, sparsity=0.5)
    previous = random.integers(WORDS, size=TOKENS)
    # Adding Gumbel noise to logits and taking the largest draws from their softmax.
    following = (teacher[previous] + random.gumbel(size=(TOKENS, WORDS))).argmax(-1)
    rounded = resnet_bk.quantize(weights * keep, bits=4, group=WORDS).values
    loss, gradient = resnet_bk.distillation_loss(
        rounded[previous], teacher[previous], following, temperature=2.0, alpha=0.7
    )
    losses.append(loss)
    # The straight-through estimator: rounding has the gradient of the identity.
    update = np.zeros_like(weights)
    np.add.at(update, previous, gradient)
    weights -= 20 * update * keep

print(f"loss {losses[0]:.3f} at first, {losses[-1]:.3f} at last; {np.mean(rounded == 0):.0%} of the weights are zero")
assert losses[-1] < 0.6 * losses[0]
assert np.mean(rounded == 0) >= 0.5
