"""Small language models: train and compress them, and use what comes out.

    >>> import resnet_bk
    >>> run = resnet_bk.compress("demo", "embedded", "runs/demo")
    >>> run.model.suggest("I don't know what", k=3)
"""

from . import tracking
from ._native import (
    Generation,
    LanguageModel,
    OriginalModel,
    State,
    distillation_loss,
    prune_mask,
    quantize,
    recipe_names,
    use_threads,
)
from .errors import ArgumentError, CorpusError, DeviceError, Error, ModelError, RecipeError, RunError
from .original import load_original
from .runs import Run, compress, train
from .types import Event, Quantized, Suggestion

__all__ = [
    "ArgumentError",
    "CorpusError",
    "DeviceError",
    "Error",
    "Event",
    "Generation",
    "LanguageModel",
    "ModelError",
    "OriginalModel",
    "Quantized",
    "RecipeError",
    "Run",
    "RunError",
    "State",
    "Suggestion",
    "compress",
    "distillation_loss",
    "load_original",
    "prune_mask",
    "quantize",
    "recipe_names",
    "tracking",
    "train",
    "use_threads",
]
