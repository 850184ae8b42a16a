"""Training and compressing models."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from . import _native
from ._native import LanguageModel, OriginalModel
from .corpora import Corpus, Texts, resolve
from .errors import RunError
from .types import Event

Recipe = Union[str, "os.PathLike[str]", Mapping[str, Any]]
"""A dict, TOML, the path of a TOML file, or the name of an included recipe."""
Model = Union[str, "os.PathLike[str]", OriginalModel]
"""The path of a model, or a loaded model of Project ResNet-BK."""
Callback = Callable[[Event], object]
"""A function that gets the events of a run."""


@dataclass(frozen=True)
class Run:
    """A finished run, by its folder."""

    folder: Path

    def __init__(self, folder: Union[str, os.PathLike[str]]) -> None:
        object.__setattr__(self, "folder", Path(folder))

    @property
    def summary(self) -> dict[str, Any]:
        """All results as plain data. ``pandas.DataFrame(run.summary["stages"])`` is the table of the stages."""
        loaded: dict[str, Any] = json.loads(self._summary())
        return loaded

    @property
    def succeeded(self) -> bool:
        """Whether the target was reached, if there is one, and bigram counts were beaten."""
        return _native.succeeded(self._summary())

    @property
    def model(self) -> LanguageModel:
        """The packed model."""
        return LanguageModel(self.folder / "model.rbk")

    @property
    def events(self) -> list[Event]:
        """All events of the run."""
        lines = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
        # Behind the last line break is an incomplete line, if anything.
        return [json.loads(line) for line in lines[:-1]]

    def _summary(self) -> str:
        path = self.folder / "summary.json"
        if not path.exists():
            raise RunError(f"{self.folder} has no finished run", "resume=True goes on with an interrupted one")
        return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Request:
    """What the compiled part needs of a run."""

    recipe: tuple[str, str]
    """Its form, ``path``, ``toml``, ``json`` or ``name``, and its text."""
    corpus: Union[str, Texts]
    out: str
    assignments: list[str]
    """``key=value``, as for ``--set``."""
    only_train: bool
    callback: Optional[Callback]
    resume: bool
    device: str
    cache: bool
    model: Optional[Model] = None
    baseline: Optional[Model] = None


def compress(
    recipe: Recipe,
    corpus: Corpus,
    out: Union[str, os.PathLike[str]],
    *,
    callback: Optional[Callback] = None,
    resume: bool = False,
    set: Optional[Mapping[str, Any]] = None,
    model: Optional[Model] = None,
    baseline: Optional[Model] = None,
    device: str = "auto",
    cache: bool = True,
) -> Run:
    """Trains and compresses a model: all stages of a recipe, then the packed model ``out/model.rbk``.

    :param recipe: a dict, TOML, the path of a TOML file, or ``"demo"``, ``"hundredfold"``,
        ``"hundredfold-long"``, ``"plan"``, ``"pocket"``, ``"seed"``, ``"small"``, ``"tiny"``.
    :param corpus: ``"embedded"``, ``"wikitext-2"``, ``"wikitext-103"``, ``"openwebtext"``, the path of a
        folder with train.txt and valid.txt, a list of strings, a ``Dataset`` with a column ``text``, or a
        ``DatasetDict`` or dict of them with the parts ``train``, ``valid`` (or ``validation``) and ``test``.
        Without a ``valid`` part, the last 5 % of the documents are held out. Texts that are not a
        folder's or a name's are split into words and punctuation marks, unless the recipe sets
        ``corpus.pretokenizer``.
    :param out: the folder of the run.
    :param callback: called with every event, a dict. An exception in it stops the run.
    :param resume: go on with the run in ``out``, from its last epoch. The other arguments must be equal.
    :param set: values of the recipe to change, such as ``{"model.d_model": 32, "stage.0.schedule.epochs": 1}``.
    :param model: a model to start from, which takes the place of the recipe's first ``train`` stages: the path of
        a checkpoint, of an artifact or of a checkpoint of Project ResNet-BK, or one of
        :func:`resnet_bk.load_original`. One without words gets them from the training text of ``corpus``.
    :param baseline: a float model to compare with, given like ``model``.
    :param device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    :param cache: whether what is made of a large text is kept for the next run.
    :raises Error: :class:`RecipeError`, :class:`CorpusError`, :class:`ModelError`, :class:`DeviceError` or
        :class:`RunError`, with hints.
    :raises KeyboardInterrupt: after Ctrl-C. What was done up to the last epoch is in ``out``.
    """
    return _execute(
        recipe,
        corpus,
        out,
        set,
        only_train=False,
        callback=callback,
        resume=resume,
        model=model,
        baseline=baseline,
        device=device,
        cache=cache,
    )


def train(
    recipe: Recipe,
    corpus: Corpus,
    out: Union[str, os.PathLike[str]],
    *,
    callback: Optional[Callback] = None,
    resume: bool = False,
    set: Optional[Mapping[str, Any]] = None,
    device: str = "auto",
    cache: bool = True,
) -> Run:
    """Trains the float model: the stages of a recipe of kind ``train``. Arguments as for :func:`compress`."""
    return _execute(
        recipe, corpus, out, set, only_train=True, callback=callback, resume=resume, device=device, cache=cache
    )


def _execute(
    recipe: Recipe,
    corpus: Corpus,
    out: Union[str, os.PathLike[str]],
    set: Optional[Mapping[str, Any]],
    **options: Any,
) -> Run:
    assignments = [f"{key}={json.dumps(value)}" for key, value in (set or {}).items()]
    request = Request(
        recipe=_form(recipe), corpus=resolve(corpus), out=os.fspath(out), assignments=assignments, **options
    )
    _native.execute(request)
    return Run(out)


def _form(recipe: Recipe) -> tuple[str, str]:
    """How a recipe is given, and its text."""
    if isinstance(recipe, Mapping):
        return "json", json.dumps(recipe)
    if isinstance(recipe, str) and "\n" in recipe:
        return "toml", recipe
    if isinstance(recipe, str) and recipe in _native.recipe_names():
        return "name", recipe
    return "path", os.fspath(recipe)
