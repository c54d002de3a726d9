"""The network studied: how it is called, what it gives, and the reference that its artifacts are held to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.data.arrays import Sample
from builder.errors import ExportError, ManifestError, NetworkError
from builder.networks.heads import with_head
from builder.networks.making import evaluated, frozen, is_lazy
from builder.tasks.task import Entry, Reference
from builder.tasks.tensors import answers, names, samples
from builder.tasks.tensors.calling import Arrangement, Mismatch, adapted, arranged
from builder.tasks.tensors.inputs import require_names, samples_of, specs_of
from builder.tasks.tensors.results import Layout, NoOutput, layout_of
from builder.triton.signature import Signature, TensorSpec
from builder.types import Network, Report, Tensors
from builder.util.usercode import border

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Studied:
    """The inputs and how the network takes them."""

    found: list[Sample]
    inputs: tuple[TensorSpec, ...]
    arrangement: Arrangement


@dataclass(frozen=True)
class Details:
    """What is made of the network once it is known: the `details` of this task's references."""

    arrangement: Arrangement
    layout: Layout


def study(entry: Entry, network: Network, report: Report) -> tuple[nn.Module, Reference]:
    """The network with its head, and its own answers for the samples. Raises BuilderError."""
    import torch

    torch.set_num_threads(entry.build_threads)
    report("reading the samples")
    found, warnings = samples_of(entry)
    taken = _inputs(entry, network, found)
    report("running the network")
    first = samples.arranged(found, entry.spec.max_batch_size).batch((0,))
    layout = _layout(entry, first_result(entry, network.module, taken.arrangement, first), taken)
    details = Details(taken.arrangement, layout)
    module = _with_head(network.module, details)
    with torch.inference_mode():
        set_, given = _asked(entry, module, taken, layout)
    outputs = answers.output_specs(given, entry.spec.is_batched, entry.name)
    reference = Reference(
        signature=Signature(taken.inputs, outputs, entry.spec.is_batched),
        samples=set_,
        answers=given,
        trained=network.trained,
        provenance=dict(network.provenance) | _facts(entry, found),
        warnings=(*warnings, *_remarks(given)),
        details=details,
    )
    return module, reference


def head(entry: Entry, network: Network, reference: Reference) -> nn.Module:
    """The network with its head again, of an entry that was studied. Raises NetworkError."""
    details: Details = reference.details
    if is_lazy(network.module):
        first = next(iter(reference.samples.batches(1)))
        first_result(entry, network.module, details.arrangement, first)
    return _with_head(network.module, details)


def _with_head(module: nn.Module, details: Details) -> nn.Module:
    # Traced code names what it takes by forward()'s arguments, and Triton's libtorch looks for these.
    arguments = [f"INPUT__{number}" for number in range(len(details.arrangement.order))]
    adapter = adapted(module, details.arrangement, details.layout)
    return with_head(adapter, arguments, details.layout.picked if adapter is module else tuple)


def _inputs(entry: Entry, network: Network, found: list[Sample]) -> Studied:
    """The inputs in the order in which forward() takes them."""
    specs = {spec.name: spec for spec in specs_of(entry, found)}
    declared = entry.spec.inputs
    try:
        arrangement = arranged(network.module, tuple(specs), bool(declared), told_names(network))
    except Mismatch as mismatch:
        keys = ("inputs", mismatch.input) if mismatch.input in declared else ("inputs" if declared else "samples",)
        raise entry.error(str(mismatch), *keys) from None
    return Studied(found, tuple(specs[name] for name in arrangement.order), arrangement)


def told_names(network: Network) -> tuple[str, ...]:
    """What a file that the network is calls its inputs, in its order; empty of all other networks."""
    told = network.interface.inputs if network.interface else None
    return tuple(tensor.name for tensor in told or ())


def first_result(entry: Entry, module: nn.Module, arrangement: Arrangement, first: Tensors) -> Any:
    """What forward() gives for the first sample, which settles lazy modules, the same for the same seed."""
    import torch

    waits = is_lazy(module)
    error = NetworkError if waits else ExportError
    doing = "has lazy modules, and this makes none of them" if waits else "the network fails"
    what = f"{entry.name}: {doing} on {answers.described(first, entry.spec.is_batched)}"
    tensors = [first[name].clone() for name in arrangement.order]
    with border(error, what), torch.no_grad(), _seeded(entry.weights.seed if waits else None):
        result = arrangement.call(evaluated(module), tensors)
    if waits:
        frozen(module)
    return result


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """What is drawn within is of this seed, and leaves the generator as it was."""
    import torch

    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def _layout(entry: Entry, result: Any, taken: Studied) -> Layout:
    outputs = entry.spec.outputs
    try:
        layout = layout_of(result, outputs)
    except NoOutput as error:
        place: Any = error.name if not isinstance(outputs, tuple) else outputs.index(error.name) if error.name else ""
        raise entry.error(str(error), "outputs", *((place,) if error.name else ())) from None
    except ExportError as error:
        raise ExportError(f"{entry.name}: {error}") from None
    require_names(entry, "outputs", layout.outputs)
    if both := names.shared((spec.name for spec in taken.inputs), layout.outputs):
        raise entry.error(
            f"an input and an output are both called {both!r}, which a served model takes for one tensor; give the "
            f"output another name: `outputs: {{{both}_out: {layout.sources[layout.outputs.index(both)]}}}`",
            "outputs",
        )
    _require_tolerances(entry, layout.outputs)
    return layout


def _require_tolerances(entry: Entry, outputs: Sequence[str]) -> None:
    for name in entry.spec.tolerance.outputs:
        if name not in outputs:
            raise entry.error(f"there is no output {name!r}; the network gives {', '.join(outputs)}", "tolerance", name)


def _asked(entry: Entry, head: nn.Module, taken: Studied, layout: Layout) -> tuple[samples.SampleSet, answers.Answers]:
    """The samples, with some of another size where none shows that an axis may have any, and the network's answers."""
    spec, inputs = entry.spec, [one.name for one in taken.inputs]
    predict = answers.runner(head, inputs, layout.outputs, spec.is_batched, entry.name)
    found = [*taken.found, *_of_another_size(entry, taken, predict)]
    set_ = samples.arranged(found, spec.max_batch_size)
    given = answers.asked(predict, set_, samples.batch_sizes(spec.max_batch_size), entry.name)
    answers.require_repeatable(predict, set_, given, entry.name)
    answers.require_independence(given, entry.name)
    return set_, given


def _of_another_size(entry: Entry, taken: Studied, predict: Any) -> list[Sample]:
    """Samples that are cut, where an axis that is declared to have any size has one alone in all of them."""
    axes = samples.constant_axes(taken.inputs, taken.found)
    if not axes:
        return []
    found = samples.cut(taken.found, axes)
    name, axis, size = axes[0]
    try:
        if found:
            predict(samples.SampleSet(tuple(found), entry.spec.is_batched).batch((0,)))
    except ExportError as error:
        raise entry.error(_untried(name, axis, size, f"at {size - 1} the network fails: {error}"), "samples") from None
    if not found:
        raise entry.error(_untried(name, axis, size, "nothing shows another"), "samples")
    return found


def _untried(name: str, axis: int, size: int, why: str) -> str:
    return (
        f"axis {axis} of {name!r} is declared to have any size, and has {size} in all samples; {why}. Give samples of "
        f"several sizes that the network takes, or declare {size}"
    )


def _facts(entry: Entry, found: Sequence[Sample]) -> dict[str, str]:
    wanted = entry.spec.samples
    origin = ", ".join(wanted.sources) if wanted else f"numbers drawn with seed {entry.spec.seed}"
    return {"verified_on": f"{len(found)} samples of {origin}" if wanted else f"{len(found)} samples: {origin}"}


def _remarks(given: answers.Answers) -> list[str]:
    constant = answers.unchanged(given)
    if not constant or len({numbers for batch in given.plan for numbers in batch}) < 2:
        return []
    they = "it depends" if len(constant) == 1 else "they depend"
    return [
        f"the samples change nothing in {', '.join(constant)}, so that nothing shows whether {they} on the inputs; "
        "give samples that do, or leave out what is constant"
    ]


def calibration_error(entry: Entry) -> ManifestError:
    return entry.error(
        "int8 needs `calibration: FILE.npz`: samples like what is to come, of which it learns the ranges of the "
        "activations, and not those of `samples`",
        "precision",
    )
