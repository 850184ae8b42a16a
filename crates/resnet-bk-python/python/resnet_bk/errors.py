"""Exceptions. Each has a message, and where something can be done about it a hint."""

from __future__ import annotations

from typing import Optional


class Error(Exception):
    """An error of the package.

    ``hint`` says what to do about it, or is None. It names options as the command line does:
    ``--resume`` is ``resume=True`` here, and ``--set model.d_model=64`` is
    ``set={"model.d_model": 64}``.
    """

    hint: Optional[str]

    def __init__(self, message: str, hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message}\n\nhint: {self.hint}" if self.hint else message


class ArgumentError(Error, ValueError):
    """An argument has a value that is not allowed."""


class RecipeError(Error):
    """A recipe is not valid, or does not fit the run."""


class CorpusError(Error):
    """A text is not found, cannot be read, or is too short."""


class ModelError(Error):
    """A file is not a model, or the model cannot do what is asked of it."""


class DeviceError(Error):
    """A GPU cannot be used."""


class RunError(Error):
    """A run cannot begin, go on or finish."""
