"""Callbacks, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import resnet_bk
from resnet_bk import tracking


def test_numbers_have_the_step_over_all_stages() -> None:
    logged: list[tuple[dict[str, float], int]] = []
    numbers = tracking.Numbers(lambda values, step: logged.append((values, step)))
    started = {"event": "stage_started", "epochs": 2, "steps_per_epoch": 3, "first_step": 0}
    for event in [
        {**started, "stage": 1, "kind": "train"},
        {"event": "step", "stage": 1, "step": 5, "loss": 3.0},
        {"event": "epoch_ended", "stage": 1, "epoch": 2, "valid_perplexity": 9.0, "dev_perplexity": None},
        {"event": "warning", "message": "short"},
        {"event": "model_measured", "stage": 1, "epoch": 2, "expert_usage": [[0.5, 0.5]], "scales": {"head": 0.1}},
        {**started, "stage": 2, "kind": "qat", "first_step": 3},
        {"event": "step", "stage": 2, "step": 4, "loss": 2.0},
    ]:
        numbers(event)
    usage = {"train/expert_usage/0/0": 0.5, "train/expert_usage/0/1": 0.5, "train/scales/head": 0.1}
    assert logged == [
        ({"train/loss": 3.0}, 5),
        ({"train/valid_perplexity": 9.0}, 5),
        (usage, 5),
        ({"qat/loss": 2.0}, 10),
    ]


def test_epochs_are_printed(
    quick: dict[str, Any], sentences: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resnet_bk.train(quick, sentences, tmp_path / "run", callback=tracking.print_epochs)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("stage 1, epoch 1: loss "), lines


class Stopped(Exception):
    """What interrupts a run."""


def test_tensorboard_reads_every_number_once(
    recipe: dict[str, Any], sentences: list[str], tmp_path: Path
) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def interrupt(event: resnet_bk.types.Event) -> None:
        if event["event"] == "step" and event["stage"] == 2 and event["step"] == 60:
            raise Stopped

    with pytest.raises(Stopped):
        resnet_bk.compress(recipe, sentences, tmp_path / "run", callback=interrupt)
    run = resnet_bk.compress(recipe, sentences, tmp_path / "run", resume=True)
    expected: dict[str, dict[int, float]] = {}

    def keep(numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            expected.setdefault(name, {})[step] = value

    # What the resumed run computed again replaces what was lost.
    numbers = tracking.Numbers(keep)
    for event in run.events:
        numbers(event)
    reader = accumulators.EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    found = {tag: [(scalar.step, scalar.value) for scalar in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2
    assert set(found) == set(expected)
    for tag, scalars in found.items():
        assert len(scalars) == len(expected[tag]), f"{tag}: doubled steps"
        assert dict(scalars) == pytest.approx(expected[tag], rel=1e-6), tag
    assert {"prune/sparsity", "qat/lambda", "qat/bytes/embedding", "train/expert_usage/0/0"} <= set(found)
    assert any(tag.startswith("qat/scales/") for tag in found)


def test_weights_and_biases_offline(
    quick: dict[str, Any], sentences: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    callback = tracking.wandb("words", dir=str(tmp_path))
    run = resnet_bk.train(quick, sentences, tmp_path / "run", callback=callback)
    wandb.finish()
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    perplexity = run.summary["stages"][0]["valid_perplexity"]
    # Records hold their numbers as JSON.
    assert b"train/valid_perplexity" in written.read_bytes()
    assert repr(perplexity).encode() in written.read_bytes()


def test_mlflow_in_a_folder(
    quick: dict[str, Any], sentences: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    run = resnet_bk.train(quick, sentences, tmp_path / "run", callback=tracking.mlflow("words"))
    tracked = mlflow.active_run().info.run_id
    mlflow.end_run()
    metrics = mlflow.get_run(tracked).data.metrics
    assert metrics["train/valid_perplexity"] == run.summary["stages"][0]["valid_perplexity"]
    steps = mlflow.MlflowClient().get_metric_history(tracked, "train/loss")
    assert len(steps) == sum(event["event"] == "step" for event in run.events)
