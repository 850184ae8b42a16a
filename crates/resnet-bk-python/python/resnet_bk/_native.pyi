from collections.abc import Iterator
from os import PathLike
from typing import Any, Optional, Protocol, Union, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .corpora import Texts
from .runs import Request
from .types import Quantized, Suggestion

__all__ = [
    "Generation",
    "LanguageModel",
    "OriginalModel",
    "State",
    "distillation_loss",
    "execute",
    "load_original",
    "prune_mask",
    "quantize",
    "recipe_names",
    "succeeded",
    "use_threads",
]

class _BinaryFile(Protocol):
    def read(self) -> bytes: ...

@final
class LanguageModel:
    """A language model: decoded weights and vocabulary.

    Text is split into words and punctuation marks. ``<unk>`` replaces a word that is not in the
    vocabulary, and ``<eos>`` a line break. Every text is accepted. Methods may be called from
    several threads; they release the interpreter lock while they compute.
    """

    def __new__(cls, source: Union[str, PathLike[str], bytes, _BinaryFile]) -> LanguageModel:
        """Reads an artifact (``RUN/model.rbk``) by its path, its bytes or a file object opened in binary
        mode, or a checkpoint (``RUN/NN-stage/model.safetensors``) by its path.

        :raises ModelError: if it is neither, or is damaged.
        """

    def suggest(self, text: str, k: int = 5, prefix: str = "") -> list[Suggestion]:
        """The ``k`` most probable words after ``text``, most probable first.

        Probabilities are among all words. With a prefix, only words that begin with it are suggested,
        and their probabilities are divided by the sum over all words with the prefix. An empty text
        means the start of a line.
        """

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = 50,
        temperature: float = 0.8,
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        repetition_penalty: float = 1.0,
        seed: int = 1,
    ) -> Generation:
        """Generates text that follows ``prompt.rstrip()``, in pieces. Equal options give equal text.

        :param max_tokens: words, punctuation marks and line breaks.
        :param temperature: below 1 favors probable words; 0 always takes the most probable one.
        :param top_k: draws from so many of the most probable words only.
        :param top_p: draws from the fewest most probable words whose probabilities add up to it.
        :param repetition_penalty: divides the logits of the last 64 words; above 1, text repeats itself less.
        """

    def tokens(self, text: str) -> list[str]:
        """The tokens of a text: words, ``<unk>``, and ``<eos>`` at the end of every line."""

    def log_probabilities(self, text: str) -> NDArray[np.float32]:
        """The natural logarithm of the probability of each of the :meth:`tokens`, after those before it.

        The state is not reset between lines. ``exp(-mean)`` is therefore the streaming perplexity.
        """

    def perplexity(self, text: str) -> float:
        """Perplexity as ``resnet-bk eval`` measures it: windows with the state reset at each."""

    def state(self) -> State:
        """The state of an empty text, to which words can be appended."""

    def size_breakdown(self) -> list[dict[str, Any]]:
        """Bytes by part: dicts of ``part``, ``kind`` and ``bytes``, which add up to the file."""

    def to_bytes(self) -> bytes:
        """The artifact, for a file of one's own."""

    def int8(self) -> LanguageModel:
        """The float model with its matrices rounded to 255 levels, a scale for every 128 elements.

        Nothing is trained: it is the baseline that quantization-aware training has to beat.

        :raises ModelError: if the model is quantized already.
        """

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The decoded weights by name, as the model computes with them; linear maps are ``[in, out]``."""

    @property
    def words(self) -> list[str]:
        """The vocabulary, in the order of the ids."""

    @property
    def is_causal(self) -> bool:
        """Whether each prediction depends on earlier tokens only."""

    @property
    def vocabulary_size(self) -> int:
        """Words, ``<unk>`` and ``<eos>`` included."""

    @property
    def window(self) -> int:
        """Length in tokens of the windows of training and of :meth:`perplexity`."""

    @property
    def bytes_total(self) -> int:
        """Length of the artifact."""

@final
class State:
    """The state of the model after a text that is extended word by word. Each word costs one step of the
    model. ``len(state)`` is the number of tokens.
    """

    def push(self, text: str) -> None:
        """Appends the words of a text, which begins with a new word."""

    def end_line(self) -> None:
        """Ends the line."""

    def suggest(self, k: int = 5, prefix: str = "") -> list[Suggestion]:
        """As :meth:`LanguageModel.suggest`."""

    def generate(
        self,
        *,
        max_tokens: int = 50,
        temperature: float = 0.8,
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        repetition_penalty: float = 1.0,
        seed: int = 1,
    ) -> Generation:
        """As :meth:`LanguageModel.generate`. The state does not change."""

    def copy(self) -> State:
        """An independent copy."""

    def __copy__(self) -> State: ...
    def __deepcopy__(self, _memo: Any) -> State: ...
    def __len__(self) -> int: ...

@final
class Generation(Iterator[str]):
    """Iterator over the pieces of generated text."""

    def __iter__(self) -> Generation: ...
    def __next__(self) -> str: ...

@final
class OriginalModel:
    """A model of Project ResNet-BK: see :func:`resnet_bk.load_original`.

    It is bidirectional: every position sees its whole sequence, the token that it should predict
    included. So it cannot suggest or generate, and its perplexity is not a language model's. Ids
    are those of its file.
    """

    def logits(self, array: ArrayLike) -> NDArray[np.float32]:
        """The logits of the next token for ids ``[..., T]``: an array ``[..., T, words]``.

        :raises ArgumentError: if ``T`` is 0 or longer than :attr:`window`, or an id is of no word.
        """

    def features(self, array: ArrayLike) -> list[NDArray[np.float32]]:
        """For each block an array ``[..., T, 2]``: real and imaginary part of the resolvent's diagonal.

        :raises ArgumentError: as :meth:`logits`.
        """

    def pack(self) -> LanguageModel:
        """The packed model in float32, which has ``perplexity`` and ``size_breakdown``.

        :raises ModelError: if the model has no words.
        """

    @property
    def words(self) -> Optional[list[str]]:
        """The words, ``<unk>`` first, or None if they are not known."""

    @property
    def vocabulary_size(self) -> int:
        """Number of words."""

    @property
    def d_model(self) -> int:
        """Width of the hidden states."""

    @property
    def n_layers(self) -> int:
        """Number of blocks."""

    @property
    def window(self) -> int:
        """Length of the longest sequence, in tokens."""

    @property
    def experts(self) -> list[int]:
        """Number of experts in each block."""

    @property
    def top_k(self) -> int:
        """Experts that a token is routed to."""

    @property
    def v_max(self) -> float:
        """Bound on the potential."""

    @property
    def feature_clamp(self) -> float:
        """Bound on the features."""

def load_original(
    path: Union[str, PathLike[str]],
    vocabulary: Union[str, PathLike[str], None],
    corpus: Union[str, Texts, None],
    top_k: Optional[int],
    v_max: Optional[float],
    feature_clamp: Optional[float],
) -> OriginalModel: ...
def quantize(array: ArrayLike, bits: int, group: int = 128) -> Quantized:
    """Symmetric quantization with a scale for each ``group`` elements, read in row-major order."""

def prune_mask(array: ArrayLike, sparsity: float) -> NDArray[np.bool_]:
    """True for what is kept: all but a share ``sparsity`` of the elements, those of the smallest magnitude."""

def distillation_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    targets: ArrayLike,
    temperature: float = 2.0,
    alpha: float = 0.7,
) -> tuple[float, NDArray[np.float32]]:
    """The mean distillation loss in nats, and its gradient for the student's logits.

    ``alpha * temperature**2 * KL(teacher || student) + (1 - alpha) * cross_entropy``, where both
    distributions of the first part have the temperature. Logits have the shape ``[..., words]``, targets
    ``[...]``.
    """

def execute(request: Request) -> None: ...
def succeeded(summary: str) -> bool: ...
def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""

def use_threads(threads: int) -> None:
    """Sets the number of threads that compute, once and before any work."""
