"""Callbacks that show the events of a run, or pass them to a service that tracks experiments.

    >>> run = resnet_bk.compress("demo", "embedded", "runs/demo", callback=resnet_bk.tracking.wandb("words"))

Numbers are logged by stage, as ``train/loss`` or ``qat/valid_perplexity``, over the steps of all stages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .types import Event

#: Keys of events that say when something was, and are not values of their own.
PLACE = {"event", "stage", "kind", "step", "epoch", "first_step", "epochs", "steps_per_epoch"}


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
        self.before = self.steps = self.at = 0

    def __call__(self, event: Event) -> None:
        if event["event"] == "stage_started":
            self.kind, self.before = event["kind"], self.before + self.steps
            self.steps = event["epochs"] * event["steps_per_epoch"]
            self.at = self.before + event["first_step"]
        if event["event"] == "step":
            self.at = self.before + event["step"]
        numbers = {
            f"{self.kind}/{key}": value
            for key, value in event.items()
            if key not in PLACE and isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        if numbers:
            self.log(numbers, self.at)


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
