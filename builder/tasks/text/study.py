"""What the network itself gives for the evaluation texts, once it is known to be answers of single texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.data import texts
from builder.errors import VerificationError
from builder.tasks.classification.comparison import require_probabilities
from builder.tasks.images.labels import resolve_labels
from builder.tasks.task import Entry, Reference
from builder.tasks.text import answers
from builder.tasks.text.calling import TYPES, activation_of, inputs_of, signature, text_head
from builder.tasks.text.entries import Wanted, evaluated, wanted
from builder.tasks.text.samples import Pass, TextSamples, arranged
from builder.tasks.text.tokenizing import hold_step, settings_for
from builder.types import Network, Report

if TYPE_CHECKING:
    import torch
    from torch import nn

SUM_ERROR = 1e-5


@dataclass(frozen=True)
class Details:
    """What the task keeps of its study for later."""

    wanted: Wanted
    inputs: tuple[str, ...]
    passes: tuple[Pass, ...]


def study(entry: Entry, network: Network, report: Report) -> tuple[nn.Module, Reference]:
    """The network with its head, and all that its artifacts are held to. Raises BuilderError."""
    import torch

    chosen = wanted(entry, network.texts)
    inputs = inputs_of(network.module, entry.name)
    report("tokenizing the evaluation texts")
    settings, largest = settings_for(entry, network.texts, chosen, TYPES in inputs)
    found = evaluated(entry)
    held_to = hold_step(entry, settings, [*found, *texts.own()])
    samples = arranged(found, settings, inputs, texts.own(), entry.spec.max_batch_size)
    details = Details(chosen, inputs, samples.passes(entry.spec.max_batch_size))
    report("running the network")
    with torch.inference_mode():
        rows = _rows(entry, network, samples, details, largest)
    labels = resolve_labels(entry, network, rows[-1].shape[1]) if chosen.is_classes else None
    module = head(entry, network, Reference(signature(inputs, 1), samples, None, True, {}, details=details))
    return module, Reference(
        signature=signature(inputs, rows[-1].shape[1]),
        samples=samples,
        answers=rows,
        trained=network.trained,
        provenance=dict(network.provenance) | {"tokenizer_held_to": held_to},
        warnings=tuple(answers.remarks(rows[-1], network.trained)),
        labels=labels,
        largest=dict.fromkeys(inputs, (settings.max_length,)),
        details=details,
    )


def head(entry: Entry, network: Network, reference: Reference) -> nn.Module:
    del entry
    details: Details = reference.details
    return text_head(network.module, details.inputs, details.wanted, activation_of(details.wanted))


def _rows(entry: Entry, network: Network, samples: TextSamples, details: Details, largest: int) -> list[torch.Tensor]:
    """Vectors or probabilities [texts, D] of each pass. Raises BuilderError."""
    chosen, name = details.wanted, entry.name
    predict = answers.runner(text_head(network.module, details.inputs, chosen, None), details.inputs, name)
    answers.require_numbers(predict, samples, largest, name)
    raw = answers.rows_of(predict, samples, details.passes)
    answers.require_finite(raw, details.passes, samples, name)
    answers.require_same(predict, raw, details.passes, samples, name)
    if chosen.is_classes:
        _require_scores(raw[-1], chosen, name)
    activation = activation_of(chosen)
    rows = [activation(one) for one in raw]
    for one in rows if chosen.is_classes else ():
        require_probabilities(one, chosen.is_multilabel, name, "texts")
    return rows


def _require_scores(scores: torch.Tensor, chosen: Wanted, name: str) -> None:
    """Raise VerificationError for scores between which there is nothing to decide, or that are no scores."""
    if scores.shape[1] < (1 if chosen.is_multilabel else 2):
        raise VerificationError(
            f"{name}: the network gives {scores.shape[1]} scores a text, and one class is always 100 %; for the "
            "probability of a yes alone, set `activation: sigmoid`"
        )
    are_shares = scores.min() >= 0 and (scores.sum(1) - 1).abs().max() <= SUM_ERROR
    if are_shares and scores.shape[1] > 1 and chosen.activation != "none":
        raise VerificationError(
            f"{name}: the network gives probabilities itself (rows of 0 to 1 whose sum is 1), and a second "
            f"{chosen.activation} would flatten them; set `activation: none`"
        )
