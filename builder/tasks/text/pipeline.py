"""What stands around a network that reads texts: a text goes in, a vector or probabilities come out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from builder.data import texts
from builder.data.texts import Text
from builder.repository import layout
from builder.steps import STEPS, tokenizer
from builder.steps.staging import stage_step
from builder.tasks.task import Call, Entry, Example, Pipeline, Reference
from builder.tasks.text.samples import Run, TextSamples
from builder.tasks.text.verify import allowed
from builder.triton.signature import EMBEDDING_OUTPUT, PROBABILITIES_OUTPUT, TEXT_INPUT, Signature, TensorSpec
from builder.types import Predict

STEP = "tokenizer"
EXAMPLES = 4


def examples(entry: Entry, reference: Reference, predict: Predict) -> Iterator[Example]:
    """Texts of this package, so that none of the user's is published; those that the server takes."""
    samples, ((answer,), name) = _samples(reference), (reference.signature.outputs, _output(reference))
    for text in _accepted(texts.own(), entry)[:EXAMPLES]:
        batch = TextSamples((text,), samples.settings, samples.inputs).batch(Run((0,)))
        yield Example({TEXT_INPUT: text.data}, {name: predict(batch)[answer.name].clone()})


def _accepted(found: list[Text], entry: Entry) -> list[Text]:
    short = [text for text in found if len(text.data) <= entry.spec.max_text_bytes]
    return short or [Text("one letter", "a")]


def pipeline(entry: Entry, reference: Reference, folder: Path) -> Pipeline:
    """The tokenizer, then the network: one ensemble."""
    settings, name = _samples(reference).settings, _output(reference)
    step, network, wanted = STEPS[STEP], reference.signature, reference.details.wanted
    own, (answer,) = step.signature(settings), network.outputs
    first = _accepted(texts.own(), entry)[0].data
    staged = stage_step(folder / STEP, step, settings, first, entry.cores, tokenizer.files(settings))
    rows = [tensor.name for tensor in own.outputs]
    return Pipeline(
        signature=Signature(own.inputs, (TensorSpec(name, "FP32", answer.shape),)),
        calls=(
            Call({TEXT_INPUT: TEXT_INPUT}, {row: row for row in rows}, staged),
            Call({given.name: row for given, row in zip(network.inputs, rows, strict=True)}, {answer.name: name}),
        ),
        labels=reference.labels,
        labelled=frozenset({answer.name, name}) if wanted.is_classes else frozenset(),
        parameters=_for_clients(entry, reference),
        built_from={
            "tokenizer": settings.model_dump(mode="json"),
            "tolerance": allowed(entry, wanted.is_classes),
        },
    )


def _for_clients(entry: Entry, reference: Reference) -> dict[str, str]:
    """`activation` says what probabilities are, as of pictures: sigmoid if several classes may be right."""
    wanted, settings = reference.details.wanted, _samples(reference).settings
    limits = {layout.MAX_TEXT_BYTES: str(settings.max_text_bytes), "max_length": str(settings.max_length)}
    if wanted.is_classes:
        kind = "sigmoid" if wanted.is_multilabel else wanted.activation
        return limits | {layout.ACTIVATION: kind}
    del entry
    return limits | {"pool": wanted.pool, "normalize": wanted.normalize}


def _samples(reference: Reference) -> TextSamples:
    samples = reference.samples
    assert isinstance(samples, TextSamples)  # of this task's own study
    return samples


def _output(reference: Reference) -> str:
    return PROBABILITIES_OUTPUT if reference.details.wanted.is_classes else EMBEDDING_OUTPUT
