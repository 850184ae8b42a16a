"""Texts of Python as a corpus: lists of strings, and data sets of Hugging Face's ``datasets``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Union

from .errors import ArgumentError

Corpus = Union[str, "os.PathLike[str]", Iterable[str], Mapping[str, Any]]
"""What a run takes as its text; see :func:`resnet_bk.compress`."""

#: Of documents without a ``valid`` part, the last one in this many is held out.
HELD_OUT = 20
#: Names of the part that is held out, the first that is there counts.
VALID = ("valid", "validation")


class Texts:
    """The parts of a text, with one document or line of a document a line."""

    def __init__(self, train: str, valid: str, test: Union[str, None] = None) -> None:
        self.train, self.valid, self.test = train, valid, test


def resolve(corpus: Corpus) -> Union[str, Texts]:
    """The name or the folder of a corpus as it is, or its texts."""
    if isinstance(corpus, (str, os.PathLike)):
        return os.fspath(corpus)
    # A `DatasetDict` is a mapping, too.
    if not isinstance(corpus, Mapping):
        return held_out(documents(corpus))
    if "train" not in corpus:
        raise ArgumentError(f"the corpus has no part 'train', but {', '.join(map(str, corpus))}")
    train = documents(corpus["train"])
    test = joined(documents(corpus["test"])) if "test" in corpus else None
    valid = next((name for name in VALID if name in corpus), None)
    if valid is None:
        texts = held_out(train)
        return Texts(texts.train, texts.valid, test)
    return Texts(joined(train), joined(documents(corpus[valid])), test)


def documents(part: Any) -> list[str]:
    """The documents of a list of strings, or of anything that has a column ``text``."""
    if isinstance(part, str):
        raise ArgumentError("a part of a corpus is a list of strings, but this is one string")
    if "text" in (getattr(part, "column_names", None) or ()):
        part = part["text"]
    found = list(part)
    for index, document in enumerate(found):
        if not isinstance(document, str):
            raise ArgumentError(
                f"document {index} is of type {type(document).__name__}: a corpus is a list of strings, "
                "or a data set with a column 'text'"
            )
    return found


def held_out(found: list[str]) -> Texts:
    """The last 5 % of the documents, at least one, are for validation."""
    if len(found) < 2:
        raise ArgumentError(f"{len(found)} documents cannot be split into train and valid: at least 2 are needed")
    end = len(found) - max(1, len(found) // HELD_OUT)
    return Texts(joined(found[:end]), joined(found[end:]))


def joined(found: list[str]) -> str:
    """Documents as lines."""
    return "".join(document.rstrip("\n") + "\n" for document in found)
