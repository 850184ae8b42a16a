"""Using a model."""

from __future__ import annotations

import copy
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY_ENGLISH

import resnet_bk
from resnet_bk import LanguageModel


def test_path_bytes_and_file_object_give_the_same_model(english: LanguageModel) -> None:
    expected = english.suggest("I want")
    with open(TINY_ENGLISH, "rb") as file:
        sources = [str(TINY_ENGLISH), TINY_ENGLISH.read_bytes(), file, io.BytesIO(TINY_ENGLISH.read_bytes())]
        assert [LanguageModel(source).suggest("I want") for source in sources] == [expected] * 4


def test_suggestions_are_ordered_probabilities(english: LanguageModel) -> None:
    words = english.suggest("I want", k=3)
    assert words[0].word == "to" and len(words) == 3
    probabilities = [word.probability for word in words]
    assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) < 1
    word, probability = words[0]
    assert (word, probability) == (words[0].word, words[0].probability)


def test_a_prefix_divides_by_the_sum_of_its_words(english: LanguageModel) -> None:
    every = english.suggest("I want to", k=english.vocabulary_size)
    of_prefix = [word for word in every if word.word.startswith("s")]
    found = english.suggest("I want to", k=english.vocabulary_size, prefix="s")
    assert [word.word for word in found] == [word.word for word in of_prefix]
    total = sum(word.probability for word in of_prefix)
    np.testing.assert_allclose([w.probability for w in found], [w.probability / total for w in of_prefix], rtol=1e-4)
    assert english.suggest("I want to", prefix="zzz") == []


def test_generation_repeats_with_its_seed(english: LanguageModel) -> None:
    def text(seed: int) -> str:
        return "".join(english.generate("She said that", max_tokens=20, temperature=0.7, seed=seed))

    assert text(1) == text(1) != text(2)
    pieces = english.generate("I want", max_tokens=1, temperature=0)
    assert next(pieces) == " to"
    with pytest.raises(StopIteration):
        next(pieces)


def test_generation_has_the_documented_defaults(english: LanguageModel) -> None:
    explicit = english.generate(
        "I", max_tokens=50, temperature=0.8, top_k=None, top_p=None, repetition_penalty=1.0, seed=1
    )
    assert list(english.generate("I")) == list(explicit)
    assert len(list(english.generate("I"))) == 50


def test_log_probabilities_are_an_array_of_one_number_a_token(english: LanguageModel) -> None:
    text = "I want to go home.\nShe went to xyzzy.\n"
    tokens, scores = english.tokens(text), english.log_probabilities(text)
    assert scores.dtype == np.float32 and scores.shape == (len(tokens),) == (13,)
    assert tokens[-3:] == ["<unk>", ".", "<eos>"] and (scores < 0).all()
    scores[0] = 0  # It belongs to the caller.
    assert english.log_probabilities("").shape == (0,)
    right, wrong = (english.log_probabilities(text).sum() for text in ("I want to go.", "go to want I."))
    assert right > wrong


def test_log_probabilities_are_those_of_suggestions(english: LanguageModel) -> None:
    text = "I want to go home."
    tokens, scores = english.tokens(text), english.log_probabilities(text)
    state = english.state()
    for token, score in list(zip(tokens, scores))[:-1]:
        probability = dict(state.suggest(k=english.vocabulary_size))[token]
        np.testing.assert_allclose(np.log(probability), score, rtol=1e-3)
        state.push(token)


def test_perplexity_is_that_of_windows(english: LanguageModel) -> None:
    text = "I want to go home. She went to school."
    assert len(english.tokens(text)) <= english.window
    expected = np.exp(-english.log_probabilities(text)[1:].mean())
    np.testing.assert_allclose(english.perplexity(text), expected, rtol=1e-4)


def test_a_state_goes_on_and_is_copied(english: LanguageModel) -> None:
    state = english.state()
    assert len(state) == 0
    for word in ["I", "want"]:
        state.push(word)
    assert state.suggest(3) == english.suggest("I want", 3)
    assert state.suggest(3, prefix="s") == english.suggest("I want", 3, "s")
    assert list(state.generate(seed=4)) == list(english.generate("I want", seed=4))
    others = [state.copy(), copy.copy(state), copy.deepcopy(state)]
    state.push("to")
    for other in others:
        assert len(other) == 2 and other.suggest(3) == english.suggest("I want", 3)
    state.end_line()
    state.push("She")
    assert len(state) == 5 and state.suggest(3) == english.suggest("I want to\nShe", 3)


def test_the_size_breakdown_adds_up_to_the_file(english: LanguageModel) -> None:
    entries = english.size_breakdown()
    assert sum(entry["bytes"] for entry in entries) == english.bytes_total == TINY_ENGLISH.stat().st_size
    assert {"part", "kind", "bytes"} == set(entries[0])
    assert "embedding" in {entry["part"] for entry in entries}


def test_a_float_model_is_rounded_to_int8(quick: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    run = resnet_bk.train(quick, sentences, tmp_path / "run")
    rounded = run.model.int8()
    assert rounded.bytes_total < run.model.bytes_total / 2
    float_weights, weights = run.model.tensors(), rounded.tensors()
    assert weights.keys() == float_weights.keys()
    table = weights["embedding.weight"]
    scales = np.abs(float_weights["embedding.weight"]).max() / 127
    assert 0 < np.abs(table - float_weights["embedding.weight"]).max() <= 0.51 * scales
    with pytest.raises(resnet_bk.ModelError, match="quantized already"):
        rounded.int8()


def test_bytes_tensors_and_words_are_those_of_the_file(english: LanguageModel) -> None:
    assert english.to_bytes() == TINY_ENGLISH.read_bytes()
    tensors = english.tensors()
    assert tensors["embedding.weight"].shape == (1500, tensors["norm.gamma"].shape[0])
    assert all(values.dtype == np.float32 for values in tensors.values())
    assert len(english.words) == 1500 and {"<unk>", "<eos>", "want"} <= set(english.words)


def test_properties(english: LanguageModel) -> None:
    assert (english.vocabulary_size, english.window, english.is_causal) == (1500, 64, True)
    assert repr(english) == f"LanguageModel(1500 words, {english.bytes_total} bytes)"


def test_several_threads_use_one_model(english: LanguageModel) -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(english.suggest("I want"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [english.suggest("I want")] * 4


def test_what_is_no_model_is_refused_with_a_hint(tmp_path: Path, english: LanguageModel) -> None:
    damaged = bytearray(TINY_ENGLISH.read_bytes())
    damaged[-1] ^= 1
    for source in (tmp_path / "missing.rbk", b"GGUF\x03\x00\x00\x00", bytes(damaged)):
        with pytest.raises(resnet_bk.ModelError) as error:
            LanguageModel(source)
        assert error.value.hint and str(error.value).endswith(f"hint: {error.value.hint}")
    newer = bytearray(TINY_ENGLISH.read_bytes())
    newer[8] = 200
    with pytest.raises(resnet_bk.ModelError, match="artifact format 200 is newer") as error:
        LanguageModel(bytes(newer))
    assert error.value.hint is not None and error.value.hint.startswith("update resnet-bk")
    with pytest.raises(TypeError):
        LanguageModel(3)  # type: ignore[arg-type]


def test_wrong_arguments_are_value_errors_with_a_hint(english: LanguageModel) -> None:
    with pytest.raises(resnet_bk.ArgumentError, match="temperature is -1, but must be finite") as error:
        english.generate("I", temperature=-1)
    assert isinstance(error.value, ValueError) and error.value.hint
    with pytest.raises(ValueError, match="at least 2 are needed"):
        english.perplexity("")
