"""Callbacks that show the events of a run, or pass them to a service that tracks experiments.

    >>> run = resnet_bk.compress("demo", "embedded", "runs/demo", callback=resnet_bk.tracking.wandb("words"))

Numbers are logged by stage, as ``train/loss`` or ``qat/expert_usage/0/1`` (block 0, expert 1), over
the steps of all stages: the names and steps of the run's own files for TensorBoard.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .types import Event

#: Events whose numbers are curves.
CURVES = {"stage_started", "step", "epoch_ended", "model_measured", "size_measured"}
#: Keys of events that say when something was, and are not values of their own.
PLACE = {"event", "stage", "kind", "step", "epoch", "first_step", "epochs", "steps_per_epoch", "minutes"}


def print_epochs(event: Event) -> None:
    """Prints a line for each epoch and each finished stage."""
    if event["event"] == "epoch_ended":
        print(
            f"stage {event['stage']}, epoch {event['epoch']}: loss {event['train_loss']:.4f}, "
            f"valid perplexity {event['valid_perplexity']:.2f}, {event['seconds']:.0f} s"
        )
    elif event["event"] == "stage_ended":
        print(f"stage {event['stage']} {event['kind']}: done, valid perplexity {event['valid_perplexity']:.2f}")


class Numbers:
    """The numbers of a run's events, with the step over all stages at which each was."""

    def __init__(self, log: Callable[[dict[str, float], int], Any]) -> None:
        self.log, self.kind = log, ""
        self.stage = self.before = self.steps = self.at = 0

    def __call__(self, event: Event) -> None:
        if event["event"] == "stage_started":
            # A resumed stage begins where it began before.
            if event["stage"] != self.stage:
                self.before = self.steps
            self.kind, self.stage = event["kind"], event["stage"]
            self.at = self.steps = self.before + event["first_step"]
        if event["event"] == "step":
            self.at = self.before + event["step"]
            self.steps = self.at + 1
        numbers: dict[str, float] = {}
        for key, value in event.items():
            if event["event"] in CURVES and key not in PLACE:
                add(numbers, f"{self.kind}/{key}", value)
        if numbers:
            self.log(numbers, self.at)


def add(numbers: dict[str, float], name: str, value: Any) -> None:
    """Adds a number, or those of a list or a dict, named by their path."""
    if isinstance(value, dict):
        for key, part in value.items():
            add(numbers, f"{name}/{key}", part)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            add(numbers, f"{name}/{index}", part)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        numbers[name] = value


def wandb(project: str, **options: Any) -> Numbers:
    """Logs to a new run of Weights & Biases. Options are those of ``wandb.init``."""
    import wandb

    run = wandb.init(project=project, **options)
    return Numbers(lambda numbers, step: run.log(numbers, step=step))


def mlflow(experiment: str, **options: Any) -> Numbers:
    """Logs to a new run of MLflow. Options are those of ``mlflow.start_run``."""
    import mlflow

    mlflow.set_experiment(experiment)
    mlflow.start_run(**options)
    return Numbers(lambda numbers, step: mlflow.log_metrics(numbers, step=step))
