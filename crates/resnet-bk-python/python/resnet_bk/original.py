"""Checkpoints of Project ResNet-BK, the project that this one follows."""

from __future__ import annotations

import os
from typing import Optional, Union

from . import _native
from ._native import OriginalModel
from .corpora import Corpus, resolve


def load_original(
    path: Union[str, os.PathLike[str]],
    *,
    vocabulary: Union[str, os.PathLike[str], None] = None,
    corpus: Optional[Corpus] = None,
    top_k: Optional[int] = None,
    v_max: Optional[float] = None,
    feature_clamp: Optional[float] = None,
) -> OriginalModel:
    """Loads a checkpoint of Project ResNet-BK: ``model.pt``, or the same tensors as safetensors.

    torch is not needed, and nothing in the file is run. Sizes come from the file. Settings that are None
    are those of the ``config.json`` beside it, or else that project's: 1, 3 and 10.

    Such a file has no words. Without ``vocabulary`` and ``corpus``, the model has logits and features,
    and :func:`resnet_bk.compress` rebuilds its words from the run's training text.

    :param vocabulary: a file with the words, one a line, in the order of their ids.
    :param corpus: a text, as for :func:`resnet_bk.compress`, from whose training part the words are
        rebuilt: ``<unk>``, then the most frequent words between white space, those of equal frequency in
        the order in which they first occur. The ids are right only for the text that the model was trained on.
    :param top_k: experts that a token is routed to.
    :param v_max: bound on the potential.
    :param feature_clamp: bound on the features.
    :raises ModelError: if the file is no such checkpoint, is damaged, or is a pickle that names anything
        but tensors and plain values; or if there are too few or too many words.
    """
    text = None if corpus is None else resolve(corpus)
    return _native.load_original(os.fspath(path), vocabulary, text, top_k, v_max, feature_clamp)
