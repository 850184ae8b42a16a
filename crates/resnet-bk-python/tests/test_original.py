"""Checkpoints of Project ResNet-BK."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CHECKPOINT
from numpy.typing import NDArray

import resnet_bk

#: The original computes its resolvent in another order and, in part, in double precision.
TOLERANCE = 1e-4


def safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file: the length of a JSON header, the header, the values."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(content[8:start])
    entries.pop("__metadata__", None)
    found = {}
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        dtype = {"F32": "<f4", "I64": "<i8"}[entry["dtype"]]
        found[name] = np.frombuffer(content[start + begin : start + end], dtype).reshape(entry["shape"])
    return found


@pytest.fixture(scope="module")
def expected() -> dict[str, NDArray[Any]]:
    return safetensors(CHECKPOINT.with_name("expected.safetensors"))


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("".join(f"w{n}\n" for n in range(1, 10)) + "<unk>\n" + "".join(f"w{n}\n" for n in range(10, 500)))
    return path


def test_logits_and_features_are_those_of_the_original(expected: dict[str, NDArray[Any]]) -> None:
    model = resnet_bk.load_original(CHECKPOINT)
    ids = expected["input_ids"]
    logits, features = model.logits(ids), model.features(ids)
    assert logits.shape == (3, 48, 500) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=TOLERANCE)
    assert [block.shape for block in features] == [(3, 48, 2)] * 2
    for index, block in enumerate(features):
        np.testing.assert_allclose(block, expected[f"features.{index}"], rtol=0, atol=TOLERANCE)


def test_sizes_come_from_the_file_and_settings_from_arguments() -> None:
    model = resnet_bk.load_original(str(CHECKPOINT), v_max=0.5, feature_clamp=2)
    assert (model.vocabulary_size, model.d_model, model.n_layers, model.window) == (500, 32, 2, 48)
    assert (model.experts, model.top_k, model.v_max, model.feature_clamp) == ([3, 3], 1, 0.5, 2.0)
    assert model.words is None
    assert repr(model) == "OriginalModel(500 words, width 32, 2 blocks, windows of 48 tokens)"
    with pytest.raises(resnet_bk.ModelError, match="top_k is 4, but must be from 1 to num_experts"):
        resnet_bk.load_original(CHECKPOINT, top_k=4)


def test_a_position_sees_its_own_sequence_and_no_other() -> None:
    model = resnet_bk.load_original(CHECKPOINT)
    ids = np.arange(20).reshape(2, 10)
    whole = model.logits(ids)
    np.testing.assert_array_equal(model.logits(list(range(10))), whole[0])
    changed = ids.copy()
    changed[0, 9] = 300
    logits = model.logits(changed)
    assert not np.array_equal(logits[0, 0], whole[0, 0])
    np.testing.assert_array_equal(logits[1], whole[1])
    assert model.logits(np.zeros((0, 5), int)).shape == (0, 5, 500)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (3, "ids are one number"),
        ([], "a sequence has 0 ids, but must have 1 to 48"),
        ([[1] * 49], "a sequence has 49 ids"),
        ([1, 500], "id 500 at index 1 is not below the 500 words"),
        ([-1], "none may be negative"),
    ],
)
def test_wrong_ids_are_refused(ids: Any, message: str) -> None:
    model = resnet_bk.load_original(CHECKPOINT)
    for compute in (model.logits, model.features):
        with pytest.raises(resnet_bk.ArgumentError, match=message):
            compute(ids)


def test_with_words_it_is_packed(words: Path) -> None:
    model = resnet_bk.load_original(CHECKPOINT, vocabulary=words)
    assert model.words is not None and model.words[:3] == ["<unk>", "w1", "w2"]
    packed = model.pack()
    assert packed.vocabulary_size == 500 and not packed.is_causal
    assert packed.perplexity(" ".join(f"w{n}" for n in range(1, 40))) > 1
    with pytest.raises(resnet_bk.ModelError):
        packed.suggest("w1")


def test_words_are_rebuilt_from_a_text(tmp_path: Path) -> None:
    lines = ["w1 w1 " + " ".join(f"w{n}" for n in range(first, first + 20)) for first in range(1, 600, 20)]
    corpus = {"train": lines, "valid": ["w1 w2"]}
    words = resnet_bk.load_original(CHECKPOINT, corpus=corpus).words
    assert words == ["<unk>"] + [f"w{n}" for n in range(1, 500)]
    with pytest.raises(resnet_bk.ModelError, match="the vocabulary has 3 words, but the model 500") as error:
        resnet_bk.load_original(CHECKPOINT, corpus=["a b", "c"])
    assert error.value.hint is not None and "--vocabulary" in error.value.hint
    with pytest.raises(resnet_bk.ArgumentError, match="both given"):
        resnet_bk.load_original(CHECKPOINT, vocabulary="words.txt", corpus=corpus)
    with pytest.raises(resnet_bk.CorpusError, match="no corpus or folder"):
        resnet_bk.load_original(CHECKPOINT, corpus="wikitext2")


def test_without_words_it_is_not_packed() -> None:
    with pytest.raises(resnet_bk.ModelError, match="has no vocabulary, and none is given"):
        resnet_bk.load_original(CHECKPOINT).pack()
    with pytest.raises(resnet_bk.ModelError, match="no vocabulary") as error:
        resnet_bk.LanguageModel(CHECKPOINT)
    assert error.value.hint is not None and "load_original" in error.value.hint


@pytest.mark.filterwarnings("ignore:.*model.pt")
def test_a_run_begins_with_it_by_path_or_object(tmp_path: Path) -> None:
    lines = [" ".join(f"w{(7 * n * n + 3 * k) % 500}" for k in range(40)) for n in range(200)]
    corpus = {"train": lines, "valid": lines[:10]}
    recipe = {
        "seed": 1,
        "corpus": {"pretokenizer": "whitespace"},
        "model": {"preset": "seed"},
        "schedule": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3},
        "stage": [{"kind": "train"}, {"kind": "qat", "calibration_samples": 200}],
    }
    loaded = resnet_bk.load_original(CHECKPOINT, v_max=2)
    runs = [
        resnet_bk.compress(recipe, corpus, tmp_path / "path", model=CHECKPOINT, set={"model.v_max": 2.0}),
        resnet_bk.compress(recipe, corpus, tmp_path / "object", model=loaded),
        resnet_bk.compress(recipe, corpus, tmp_path / "default", model=str(CHECKPOINT), baseline=loaded),
    ]
    assert [[stage["kind"] for stage in run.summary["stages"]] for run in runs] == [["qat"]] * 3
    assert not runs[0].model.is_causal and runs[0].model.vocabulary_size == 500
    models = [(run.folder / "model.rbk").read_bytes() for run in runs]
    assert models[0] == models[1] != models[2]


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    touched = tmp_path / "touched"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (touched,)

    path = tmp_path / "hostile.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({"model_state_dict": Hostile()}, protocol=2))
    with pytest.raises(resnet_bk.ModelError, match="nothing of it was run") as error:
        resnet_bk.load_original(path)
    assert error.value.hint is not None and not touched.exists()
    pickle.loads(zipfile.ZipFile(path).read("model/data.pkl"))
    assert touched.exists()  # It is hostile.


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    shutil.copy(CHECKPOINT, tmp_path / "model.pt")
    content = bytearray((tmp_path / "model.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(resnet_bk.ModelError, match="its checksum does not match"):
        resnet_bk.load_original(tmp_path / "model.pt")
    with pytest.raises(resnet_bk.ModelError, match=r"missing.pt: it cannot be read"):
        resnet_bk.load_original(tmp_path / "missing.pt")
