"""A small text, a recipe of a few seconds, and a model that it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import resnet_bk

#: A model that is in the repository for the tests of the runtime.
TINY_ENGLISH = Path(__file__).parents[2] / "resnet-bk-runtime" / "tests" / "data" / "tiny-english.rbk"

#: A checkpoint of Project ResNet-BK, from the tests of the library.
CHECKPOINT = Path(__file__).parents[2] / "resnet-bk" / "tests" / "data" / "reference-checkpoint" / "model.pt"

SUBJECTS = ["the cat", "a dog", "the old man", "she", "my friend"]
VERBS = ["sees", "likes", "finds", "wants"]
OBJECTS = ["the ball", "a fish", "the house", "some tea", "a book", "the sea"]


def sentence(n: int) -> str:
    n = 7 * n + n // 11
    return f"{SUBJECTS[n % 5]} {VERBS[n // 5 % 4]} {OBJECTS[n // 3 % 6]}."


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    return [sentence(n) for n in range(600)]


@pytest.fixture
def recipe() -> dict[str, Any]:
    """All kinds of stages."""
    return {
        "seed": 3,
        "model": {"preset": "tiny"},
        "schedule": {"epochs": 4, "batch_size": 8, "learning_rate": 1e-2},
        "stage": [
            {"kind": "train"},
            {"kind": "prune", "magnitude": {"sparsity": 0.2}},
            {"kind": "qat", "calibration_samples": 200},
            {"kind": "distill", "student": {"n_layers": 1}},
        ],
    }


@pytest.fixture
def quick(recipe: dict[str, Any]) -> dict[str, Any]:
    """One stage of one epoch."""
    recipe["schedule"]["epochs"] = 1
    recipe["stage"] = [{"kind": "train"}]
    return recipe


@pytest.fixture(scope="session")
def english() -> resnet_bk.LanguageModel:
    return resnet_bk.LanguageModel(TINY_ENGLISH)
