"""Single components on arrays."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_bk

RANDOM = np.random.default_rng(5)


def test_quantized_values_are_codes_times_scales() -> None:
    array = RANDOM.normal(size=(6, 50))
    quantized = resnet_bk.quantize(array, bits=4, group=50)
    assert quantized.codes.dtype == np.int16 and quantized.codes.shape == array.shape
    assert np.abs(quantized.codes).max() <= 7 and quantized.scales.shape == (6,)
    np.testing.assert_array_equal(quantized.values, quantized.codes * quantized.scales[:, None])
    # Half a scale, and the rounding of the scale to half precision.
    limit = 0.5 * quantized.scales[:, None] + np.abs(array) / 1024
    assert (np.abs(quantized.values - array) <= limit).all()
    errors = [np.abs(resnet_bk.quantize(array, bits).values - array).max() for bits in (2, 4, 8, 16)]
    assert errors == sorted(errors, reverse=True)


def test_a_mask_drops_the_smallest_magnitudes() -> None:
    array = RANDOM.normal(size=(10, 20)).astype(np.float32)
    keep = resnet_bk.prune_mask(array, sparsity=0.3)
    assert keep.dtype == bool and keep.shape == array.shape and keep.sum() == 140
    assert np.abs(array[keep]).min() > np.abs(array[~keep]).max()
    assert resnet_bk.prune_mask([1.0, -2.0], 0.5).tolist() == [False, True]


def reference(student: np.ndarray, teacher: np.ndarray, targets: np.ndarray, tau: float, alpha: float) -> float:
    def log_softmax(logits: np.ndarray) -> np.ndarray:
        logits = logits - logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    soft, wanted = log_softmax(student / tau), log_softmax(teacher / tau)
    divergence = (np.exp(wanted) * (wanted - soft)).sum(-1).mean()
    hard = -np.take_along_axis(log_softmax(student), targets[..., None], -1).mean()
    return float(alpha * tau * tau * divergence + (1 - alpha) * hard)


@pytest.mark.parametrize(("tau", "alpha"), [(1.0, 0.0), (2.0, 0.7), (4.0, 1.0)])
def test_the_distillation_loss_and_its_gradient(tau: float, alpha: float) -> None:
    student, teacher = RANDOM.normal(size=(2, 2, 3, 7))
    targets = RANDOM.integers(7, size=(2, 3))
    loss, gradient = resnet_bk.distillation_loss(student, teacher, targets, tau, alpha)
    assert gradient.shape == student.shape and gradient.dtype == np.float32
    np.testing.assert_allclose(loss, reference(student, teacher, targets, tau, alpha), rtol=1e-5)
    for index in np.ndindex(student.shape):
        step = np.zeros_like(student)
        step[index] = 1e-4
        plus, minus = (reference(student + sign * step, teacher, targets, tau, alpha) for sign in (1, -1))
        np.testing.assert_allclose(gradient[index], (plus - minus) / 2e-4, atol=1e-5)


def test_wrong_arguments_are_refused() -> None:
    logits = np.zeros((3, 5))
    for call, message in [
        (lambda: resnet_bk.quantize([1.0], 1), "bits is 1, but must be from 2 to 16"),
        (lambda: resnet_bk.quantize([np.nan], 4), "not finite|must be finite"),
        (lambda: resnet_bk.prune_mask([1.0], 1.5), "sparsity is 1.5"),
        (lambda: resnet_bk.distillation_loss(logits, logits[:2], [0, 0, 0]), r"shape \[3, 5\], teacher_logits \[2, 5\]"),
        (lambda: resnet_bk.distillation_loss(logits, logits, [0, 0]), r"targets \[2\]"),
        (lambda: resnet_bk.distillation_loss(logits, logits, [0, 0, 5]), "a target is 5, but must be below 5"),
        (lambda: resnet_bk.distillation_loss(logits, logits, [0, 0, -1]), "none may be negative"),
        (lambda: resnet_bk.distillation_loss(logits, logits, [0, 0, 0], alpha=2), "alpha is 2"),
    ]:
        with pytest.raises(resnet_bk.ArgumentError, match=message):
            call()
