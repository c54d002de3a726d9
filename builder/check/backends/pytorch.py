"""LibTorch's backend: it fills in nothing, counts forward()'s arguments, and matches them by name, index or order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from builder.check.backends import agreement, parameters, place, torch_names
from builder.check.backends.network import DamagedError
from builder.check.backends.reading_torchscript import Forward, forward
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model

SOURCE = "pytorch_backend: src/model_instance_state.cc"
SCRIPT, PACKAGE = "model.pt", "model.pt2"
AOTI = "torch_aoti"
DATA_TYPE = Rule(
    "TMR711",
    "data-type-not-pytorchs",
    Level.ERROR,
    "A tensor has a data type that PyTorch's backend does not serve.",
    "It has BOOL, UINT8, INT8 to INT64, FP16, FP32 and FP64, and STRING for lists of texts.",
    "Cast it in the network.",
    "pytorch_backend: src/libtorch_utils.cc",
)
NO_TENSORS = Rule(
    "TMR712",
    "pytorch-needs-tensors",
    Level.ERROR,
    "The config of a PyTorch model has no inputs or no outputs.",
    "TorchScript does not tell their types and shapes, and the server fills nothing in.",
    "Write all inputs and outputs into the config.",
    SOURCE,
)
TEXTS = Rule(
    "TMR713",
    "pytorch-texts",
    Level.ERROR,
    "A STRING tensor of a PyTorch model has more than one axis, the batch axis counted.",
    "PyTorch has no tensors of text: the backend gives forward() a list.",
    "Set max_batch_size to 0 and dims to [ -1 ], or take the text apart before it.",
    SOURCE,
)
CONTROL = Rule(
    "TMR714",
    "pytorch-control-name",
    Level.ERROR,
    "A control or state of a sequence is not named NAME__INDEX.",
    "The backend needs the index of forward()'s argument for it.",
    "Name it NAME__INDEX, counted from 0.",
    SOURCE,
)
ARGUMENT = Rule(
    "TMR821",
    "forward-takes-no-tensors",
    Level.ERROR,
    "forward() takes something else than tensors, lists, or one dictionary.",
    "The backend refuses such a network.",
    "Save one whose forward() takes tensors, each of them always given.",
    SOURCE,
)
RULES: tuple[Rule, ...] = (DATA_TYPE, NO_TENSORS, TEXTS, CONTROL, ARGUMENT, *torch_names.RULES)
NOT_SERVED = ("UINT16", "UINT32", "UINT64")
"""By every release; in BF16 they differ."""
INDEXED = re.compile(r"(?:(?!__).)*__[0-9]*")
PARAMETERS: dict[str, parameters.Reads] = {
    "DISABLE_OPTIMIZED_EXECUTION": parameters.truth,
    "ENABLE_CACHE_CLEANING": parameters.truth,
    "INFERENCE_MODE": parameters.truth,
    "ENABLE_TENSOR_FUSER": parameters.truth,
    "ENABLE_WEIGHT_SHARING": parameters.truth,
    "ENABLE_JIT_PROFILING": parameters.truth,
    "ENABLE_JIT_EXECUTOR": parameters.truth,
    "INTRA_OP_THREAD_COUNT": parameters.number,
    "INTER_OP_THREAD_COUNT": parameters.number,
}
DEFAULT_FILE = SCRIPT


def demands(model: Model, context: Context) -> Iterator[Finding]:
    yield from place.check(model, *_defaults(model))
    yield from _types(model)
    for field in ("input", "output"):
        if not getattr(model.filled, field):
            server = f"model configuration must contain at least one {field}, none were specified."
            yield model.finding(NO_TENSORS, f"there is no {field}", server=server)
    if model.filled.platform == AOTI:
        yield from torch_names.of_package(model)
        return
    yield from parameters.check(model, PARAMETERS)
    yield from parameters.no_optional(model)
    yield from _texts(model)
    yield from _controls(model)


def artifacts(model: Model, context: Context) -> Iterator[Finding]:
    for artifact in place.artifacts(model, *_defaults(model)):
        if why := place.foreign(artifact.path):
            yield place.damaged(model, artifact.path, f"it {why}")
        elif artifact.path.suffix != ".pt2" and model.filled.platform != AOTI:
            yield from _script(model, artifact.path)


def _defaults(model: Model) -> tuple[str, ...]:
    return (PACKAGE,) if model.filled.platform == AOTI else (SCRIPT, PACKAGE)


def _script(model: Model, path: Path) -> Iterator[Finding]:
    try:
        found = forward(path)
    except DamagedError as error:
        yield place.damaged(model, path, str(error))
        return
    if found is None:
        return
    refused = list(_arguments(model, path, found))
    yield from refused
    if not refused and model.filled.input:
        yield from _count(model, found)
        yield from torch_names.check(model, found)


def _arguments(model: Model, path: Path, found: Forward) -> Iterator[Finding]:
    """Of several arguments each is a tensor or a list."""
    if found.takes_dictionary:
        return
    for argument in found.arguments:
        if not (argument.kind == "Tensor" or argument.kind.startswith("List[")):
            server = "Only a single input of type Dict(str, Tensor)"
            yield model.finding_at(ARGUMENT, path, f"forward() takes {argument.name}: {argument.kind}", server)


def _count(model: Model, found: Forward) -> Iterator[Finding]:
    expected, takes = agreement.expected_inputs(model.filled), len(found.arguments)
    if takes and takes != expected and not found.takes_dictionary:
        names = ", ".join(argument.name for argument in found.arguments)
        server = f"configuration expects {expected} inputs, model provides {takes}"
        message = f"forward() takes {takes} ({names}), and the config gives {expected}"
        yield model.finding(agreement.COUNT, message, "input", server=server)


def _types(model: Model) -> Iterator[Finding]:
    for field in ("input", "output"):
        for index, given in enumerate(getattr(model.filled, field)):
            if (kind := agreement.data_type(given)) in NOT_SERVED:
                server = f"nsupported datatype TYPE_{kind} for {field}"
                message = f"{field} {given.name!r} is TYPE_{kind}, which PyTorch's backend does not serve"
                yield model.finding(DATA_TYPE, message, field, index, "data_type", server=server)


def _texts(model: Model) -> Iterator[Finding]:
    for field in ("input", "output"):
        for index, given in enumerate(getattr(model.filled, field)):
            axes = len(agreement.dims_of(given)) + (model.filled.max_batch_size > 0)
            if agreement.data_type(given) == "STRING" and axes > 1:
                server = "Triton only supports 1 dimensional List of String as "
                message = f"{field} {given.name!r} is text with {axes} axes"
                yield model.finding(TEXTS, message, field, index, "dims", server=server)


def _controls(model: Model) -> Iterator[Finding]:
    """Of sequences; a control's and a state's name carries the index."""
    sequence = model.filled.sequence_batching
    for index, control in enumerate(sequence.control_input):
        if control.control and not INDEXED.fullmatch(control.name):
            server = f"input '{control.name}' does not follow <name>__<index> naming convention."
            where = ("sequence_batching", "control_input", index, "name")
            yield model.finding(CONTROL, f"the control {control.name!r} has no index", *where, server=server)
    for index, state in enumerate(sequence.state):
        for field in ("input_name", "output_name"):
            if not INDEXED.fullmatch(name := getattr(state, field)):
                where = ("sequence_batching", "state", index, field)
                server = "does not follow the <name>__<index> naming convention."
                yield model.finding(CONTROL, f"the state {name!r} has no index", *where, server=server)
