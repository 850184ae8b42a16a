"""Making a model."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import resnet_bk
from resnet_bk import Run


def perplexities(run: Run) -> list[float]:
    return [stage["valid_perplexity"] for stage in run.summary["stages"]]


def test_a_run_gives_summary_model_and_events(recipe: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    events: list[resnet_bk.Event] = []
    run = resnet_bk.compress(recipe, sentences, tmp_path / "run", callback=events.append)
    assert [stage["kind"] for stage in run.summary["stages"]] == ["train", "prune", "qat", "distill"]
    assert run.summary["corpus"]["name"] == "texts of Python"
    assert run.folder == tmp_path / "run" and isinstance(run.succeeded, bool)
    assert [word.word for word in run.model.suggest("the old", k=1)] == ["man"]
    assert run.model.bytes_total == run.summary["artifact"]["bytes_total"]
    assert events == run.events and {event["event"] for event in events} >= {"step", "epoch_ended", "stage_ended"}
    again = Run(tmp_path / "run")
    assert again.summary == run.summary
    checkpoint = resnet_bk.LanguageModel(tmp_path / "run" / "01-train" / "model.safetensors")
    assert checkpoint.suggest("the old", k=1)[0].word == "man"


def test_dict_toml_path_and_set_are_one_recipe(quick: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    toml = (
        'seed = 3\nmodel.preset = "tiny"\n'
        "[schedule]\nepochs = 1\nbatch_size = 8\nlearning_rate = 1e-2\n[[stage]]\nkind = 'train'\n"
    )
    path = tmp_path / "recipe.toml"
    path.write_text(toml, encoding="utf-8")
    quick["schedule"]["epochs"] = 5
    runs = [
        resnet_bk.train(recipe, sentences, tmp_path / str(number), set=changes)
        for number, (recipe, changes) in enumerate(
            [(toml, None), (path, None), (str(path), {}), (quick, {"stage.0.schedule.epochs": 1})]
        )
    ]
    assert [perplexities(run) for run in runs] == [perplexities(runs[0])] * 4
    assert [len(run.summary["stages"]) for run in runs] == [1] * 4


def test_the_included_recipes_are_known_by_name(sentences: list[str], tmp_path: Path) -> None:
    assert resnet_bk.recipe_names() == ["demo", "hundredfold", "hundredfold-long", "plan", "pocket", "seed", "small", "tiny"]
    with pytest.raises(resnet_bk.CorpusError):  # The text is too short for the demo's batches.
        resnet_bk.compress("demo", sentences[:40], tmp_path / "run")


def test_train_leaves_out_the_other_stages(recipe: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    recipe["schedule"]["epochs"] = 1
    run = resnet_bk.train(recipe, sentences, tmp_path / "run")
    assert [stage["kind"] for stage in run.summary["stages"]] == ["train"]
    recipe["stage"] = recipe["stage"][1:]
    with pytest.raises(resnet_bk.RecipeError, match='no stage of kind "train"'):
        resnet_bk.train(recipe, sentences, tmp_path / "other")


class Dataset:
    """What this package knows of ``datasets.Dataset``."""

    def __init__(self, text: list[str]) -> None:
        self.column_names = ["id", "text"]
        self.text = text

    def __getitem__(self, column: str) -> list[str]:
        assert column == "text"
        return self.text


def test_lists_and_data_sets_are_one_corpus(quick: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    parts = {"train": sentences[:570], "validation": sentences[570:]}
    for name, lines in zip(["train.txt", "valid.txt"], parts.values()):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    corpora = [
        sentences,
        Dataset(sentences),
        parts,
        {name: Dataset(lines) for name, lines in parts.items()},
        {"train": sentences},
    ]
    runs = [resnet_bk.train(quick, corpus, tmp_path / str(i)) for i, corpus in enumerate(corpora)]
    runs.append(resnet_bk.train(quick, folder, tmp_path / "of", set={"corpus.pretokenizer": "words"}))
    assert [perplexities(run) for run in runs] == [perplexities(runs[0])] * 6


def test_hugging_face_data_sets(quick: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict({"id": list(range(600)), "text": sentences})
    parts = datasets.DatasetDict(train=whole.select(range(570)), validation=whole.select(range(570, 600)))
    corpora = [sentences, whole, parts]
    runs = [resnet_bk.train(quick, corpus, tmp_path / str(i)) for i, corpus in enumerate(corpora)]
    assert [perplexities(run) for run in runs] == [perplexities(runs[0])] * 3


def test_wrong_corpora_are_refused(quick: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    def refused(corpus: Any, kind: type[resnet_bk.Error], message: str) -> resnet_bk.Error:
        with pytest.raises(kind, match=message) as error:
            resnet_bk.train(quick, corpus, tmp_path / "run")
        return error.value

    error = refused("wikitext2", resnet_bk.CorpusError, "there is no corpus or folder")
    assert error.hint is not None and error.hint.startswith("did you mean wikitext-2?")
    refused(["one"], resnet_bk.ArgumentError, "at least 2 are needed")
    refused(["one", 2], resnet_bk.ArgumentError, "document 1 is of type int")
    refused({"valid": sentences}, resnet_bk.ArgumentError, "no part 'train', but valid")
    refused({"train": "one text"}, resnet_bk.ArgumentError, "a list of strings")
    refused(["a b c.", "d e f."], resnet_bk.CorpusError, "held-out text has 5 tokens")
    assert not (tmp_path / "run").exists()


def test_wrong_recipes_are_refused_with_their_key(quick: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    quick["model"]["d_modle"] = 3
    with pytest.raises(resnet_bk.RecipeError, match="model.d_modle is not a known key") as error:
        resnet_bk.train(quick, sentences, tmp_path / "run")
    assert error.value.hint is not None and error.value.hint.startswith("did you mean d_model?")
    with pytest.raises(resnet_bk.RecipeError, match="missing.toml"):
        resnet_bk.train("missing.toml", sentences, tmp_path / "run")
    with pytest.raises(resnet_bk.ArgumentError, match="no dict of TOML values"):
        resnet_bk.train({"seed": None}, sentences, tmp_path / "run")
    with pytest.raises(resnet_bk.ArgumentError, match="a device is auto, cpu, cuda or cuda:N"):
        resnet_bk.train("demo", sentences, tmp_path / "run", device="tpu")


def test_a_run_is_not_overwritten(quick: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    resnet_bk.train(quick, sentences, tmp_path / "run")
    with pytest.raises(resnet_bk.RunError, match="already holds a run") as error:
        resnet_bk.train(quick, sentences, tmp_path / "run")
    assert error.value.hint is not None and "--resume" in error.value.hint
    with pytest.raises(resnet_bk.RunError, match="no finished run"):
        _ = Run(tmp_path / "nothing").summary


def test_an_exception_in_the_callback_stops_the_run_and_it_goes_on(
    recipe: dict[str, Any], sentences: list[str], tmp_path: Path
) -> None:
    whole = resnet_bk.compress(recipe, sentences, tmp_path / "whole")

    class Enough(Exception):
        pass

    for stage in (1, 3):

        def stop(event: resnet_bk.Event, stage: int = stage) -> None:
            if event["event"] == "epoch_ended" and (event["stage"], event["epoch"]) == (stage, 2):
                raise Enough

        with pytest.raises(Enough):
            resnet_bk.compress(recipe, sentences, tmp_path / "parts", callback=stop, resume=stage > 1)
        assert not (tmp_path / "parts" / "summary.json").exists()
    resumed = resnet_bk.compress(recipe, sentences, tmp_path / "parts", resume=True)
    models = [(run.folder / "model.rbk").read_bytes() for run in (whole, resumed)]
    assert models[0] == models[1]


def test_ctrl_c_stops_the_run_and_it_goes_on(quick: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    quick["schedule"]["epochs"] = 60
    seen: list[str] = []

    def interrupt(event: resnet_bk.Event) -> None:
        seen.append(event["event"])
        if seen.count("epoch_ended") == 2 and event["event"] == "step":
            # As the terminal does it, while Rust computes.
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
            seen.append("interrupted")
            seen.append("epoch_ended")

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        resnet_bk.train(quick, sentences, tmp_path / "run", callback=interrupt)
    assert "interrupted" in seen and "stage_ended" not in seen
    assert time.monotonic() - started < 30
    quick["schedule"]["epochs"] = 60
    run = resnet_bk.train(quick, sentences, tmp_path / "run", resume=True)
    assert run.summary["stages"][0]["epochs"] == 60


def test_other_threads_run_while_it_computes(quick: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    ticks = 0
    done = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=count)
    thread.start()
    quick["schedule"]["epochs"] = 4
    resnet_bk.train(quick, sentences, tmp_path / "run")
    done.set()
    thread.join()
    assert ticks > 10


def test_warnings_of_a_run_are_warnings_of_python(quick: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    corpus = {"train": sentences, "valid": sentences[:60]}
    with pytest.warns(UserWarning, match="lines of the training text too"):
        run = resnet_bk.train(quick, corpus, tmp_path / "run")
    assert any("training text too" in warning for warning in run.summary["warnings"])


def test_flags_switch_stages_off(recipe: dict[str, Any], sentences: list[str], tmp_path: Path) -> None:
    recipe["schedule"]["epochs"] = 1
    recipe["model"] |= {"use_quantization": True, "quantization_bits": 8, "use_pruning": False, "use_distillation": False}
    run = resnet_bk.compress(recipe, sentences, tmp_path / "run")
    assert [stage["kind"] for stage in run.summary["stages"]] == ["train", "qat"]
    assert '"quantization_bits"' in json.dumps(recipe)
