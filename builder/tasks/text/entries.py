"""What an entry says, and what the weights say where it is silent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.data import texts
from builder.data.texts import Text
from builder.tasks.classification.limits import Tolerance as OfClasses
from builder.tasks.embedding.limits import Tolerance as OfVectors
from builder.tasks.images.labels import require_known
from builder.tasks.task import Entry, Reference
from builder.tasks.text.samples import TextSamples
from builder.tasks.text.spec import TextSpec
from builder.types import Calibration, Tensors, TextFacts

OF_CLASSES, OF_VECTORS = (frozenset(one.model_fields) for one in (OfClasses, OfVectors))


@dataclass(frozen=True)
class Wanted:
    """What is to be made of the network's answers."""

    pool: str
    """mean, cls or none."""
    normalize: str
    """l2 or none."""
    activation: str | None
    """softmax, sigmoid or none; None: vectors, not classes."""
    is_multilabel: bool

    @property
    def is_classes(self) -> bool:
        return self.activation is not None


def require(entry: Entry) -> None:
    """Raise ManifestError for what can be told before anything is made."""
    spec: TextSpec = entry.spec
    if entry.artifact:
        raise entry.error(
            f"{entry.artifact.path.name} cannot be served as it is: what makes a vector, or probabilities, of its "
            "answers is exported together with a network. Name a `network:` that loads the same weights, or serve the "
            "file with `task: tensors`, which takes token numbers",
            "artifact",
        )
    if spec.activation == "softmax" and spec.multilabel:
        raise entry.error("the softmax chooses one class; set `activation: sigmoid`", "multilabel")
    if spec.activation is not None:
        _require_of_classes(entry)
    if entry.needs_calibration and spec.calibration is None:
        raise entry.error(
            "int8 needs `calibration: FILE`: texts like those to come, one a line, of which it learns the ranges of "
            "the activations, and not those of `texts`",
            "precision",
        )
    require_known(entry)
    for key in ("texts", "calibration"):
        if value := getattr(spec, key):
            with entry.at(key):
                texts.find(value, entry.base)


def wanted(entry: Entry, facts: TextFacts | None) -> Wanted:
    """What the entry says, or else the weights. Raises ManifestError."""
    spec: TextSpec = entry.spec
    activation = spec.activation or (facts.activation if facts else None)
    if activation is not None:
        _require_of_classes(entry)
        multilabel = activation == "sigmoid" if spec.multilabel is None else spec.multilabel
        return Wanted("none", "none", activation, multilabel)
    _require_of_vectors(entry)
    pool = spec.pool or (facts.pool if facts else None)
    if pool is None:
        raise entry.error(
            "nothing tells how the vectors of a text's tokens become one; give `pool: mean`, which most sentence "
            "encoders were trained with, `pool: cls`, or `pool: none` where the network gives one vector a text. Of a "
            "classifier, give `activation: softmax` instead"
        )
    return Wanted(pool, spec.normalize or ("l2" if facts and facts.normalize else "none"), None, False)


def _require_of_classes(entry: Entry) -> None:
    for key in ("pool", "normalize"):
        if getattr(entry.spec, key) not in (None, "none"):
            raise entry.error("the network classifies, and makes no vectors; leave it out", key)
    _require_tolerance(entry, OF_CLASSES, "probabilities")


def _require_of_vectors(entry: Entry) -> None:
    for key in ("labels", "multilabel"):
        if getattr(entry.spec, key) is not None:
            raise entry.error(
                "it is for classes, and the network gives vectors; of a classifier, set `activation: softmax`", key
            )
    _require_tolerance(entry, OF_VECTORS, "vectors")


def _require_tolerance(entry: Entry, known: frozenset[str], what: str) -> None:
    for key in entry.spec.tolerance.model_fields_set - known:
        raise entry.error(f"{what} have no such figure; they have {', '.join(sorted(known))}", "tolerance", key)


def tokenizer_file(entry: Entry, facts: TextFacts | None) -> Path:
    """Raises ManifestError where there is none."""
    if entry.spec.tokenizer:
        return Path(entry.base / Path(entry.spec.tokenizer).expanduser())
    if facts:
        return facts.tokenizer
    raise entry.error(
        "nothing brings a tokenizer along; give `tokenizer: tokenizer.json`, the file that the tokenizers library and "
        "transformers save, with which the network was trained"
    )


def max_length(entry: Entry, facts: TextFacts | None) -> int | None:
    """Raises ManifestError for more than the network was made for."""
    said, most = entry.spec.max_length, facts.max_length if facts else None
    if said and most and said > most:
        raise entry.error(f"the network was made for {most} tokens; give no more", "max_length")
    return said or most


def evaluated(entry: Entry) -> list[Text]:
    with entry.at("texts"):
        return texts.find(entry.spec.texts, entry.base)


def calibration(entry: Entry, reference: Reference) -> Calibration | None:
    """The entry's texts for int8, each in a batch of its own. Raises ManifestError."""
    if entry.spec.calibration is None:
        return None
    with entry.at("calibration"):
        found = texts.find(entry.spec.calibration, entry.base)
    samples: TextSamples = reference.samples  # type: ignore[assignment]  # of this task's own study
    return Singly(TextSamples(tuple(found), samples.settings, samples.inputs))


@dataclass(frozen=True)
class Singly:
    """Batches of one. It is the `Calibration` of `builder.types`."""

    samples: TextSamples

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Tensors]:
        return iter(self.samples.batches(1))
