"""A config's tensors held to the artifact's, as backends do that know both."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from builder.check.backends.network import ANY, Network, Tensor, named
from builder.check.backends.place import Artifact
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Model

UNKNOWN_INPUT = Rule(
    "TMR802",
    "input-not-in-artifact",
    Level.ERROR,
    "The config names an input that the artifact does not take.",
    "The backend matches inputs by name.",
    "Write the name as the artifact has it.",
    "backend: src/backend_common.cc CheckAllowedModelInput",
)
UNKNOWN_OUTPUT = Rule(
    "TMR803",
    "output-not-in-artifact",
    Level.ERROR,
    "The config names an output that the artifact does not give.",
    "The backend matches outputs by name.",
    "Write the name as the artifact has it, or leave the output out.",
    "backend: src/backend_common.cc CheckAllowedModelOutput",
)
COUNT = Rule(
    "TMR804",
    "inputs-of-artifact-missing",
    Level.ERROR,
    "The artifact takes inputs that the config does not give.",
    "The backend runs it with all of its inputs, and counts them.",
    "Add the inputs, or all of them left out: then the server fills them in.",
    "onnxruntime_backend, openvino_backend, pytorch_backend: ValidateInputs",
)
DATA_TYPE = Rule(
    "TMR805",
    "data-type-not-the-artifacts",
    Level.ERROR,
    "A tensor's data type is another one in the artifact.",
    "The backend converts nothing.",
    "Write the data type that the artifact has.",
    "onnxruntime_backend: src/onnxruntime.cc ValidateInputs, ValidateOutputs",
)
DIMS = Rule(
    "TMR806",
    "dims-not-the-artifacts",
    Level.ERROR,
    "A tensor's dims are other ones in the artifact.",
    "The backend compares the number of axes, and each size that both know; of outputs a -1 must be one in both.",
    "Write the dims that the artifact has, without the batch axis where max_batch_size is above 0.",
    "onnxruntime_backend: src/onnxruntime_utils.cc, openvino_backend: src/openvino_utils.cc CompareDimsSupported",
)
BATCH_AXIS = Rule(
    "TMR807",
    "artifact-without-batch-axis",
    Level.ERROR,
    "The config batches, and the artifact's first axis has one fixed size, or there is none.",
    "The backend asks for -1 there, so that it can run any batch.",
    "Export it with a dynamic first axis, or set max_batch_size to 0 and give whole shapes.",
    "onnxruntime_backend: src/onnxruntime_utils.cc CompareDimsSupported",
)
AUTOFILL = Rule(
    "TMR808",
    "batching-not-to-be-filled-in",
    Level.ERROR,
    "The server is to fill in inputs or outputs, max_batch_size is above 0, and the artifact has no batch axis.",
    "It takes an artifact for one that batches only if every first axis is dynamic.",
    "Set max_batch_size to 0, give inputs and outputs, or export it with a dynamic first axis.",
    "onnxruntime_backend: src/onnxruntime.cc AutoCompleteMaxBatch",
)
WEIGHTS = Rule(
    "TMR809",
    "weights-missing",
    Level.ERROR,
    "The artifact keeps weights in a file beside it, which is not there, or too short.",
    "Only a part of what belongs together was copied.",
    "Put the file beside the artifact, under the name that it was saved with.",
    "ONNX: external data; OpenVINO IR: the .bin beside the .xml",
)
NO_TENSOR = Rule(
    "TMR810",
    "no-tensor",
    Level.ERROR,
    "The artifact takes or gives a sequence or a map.",
    "Triton has tensors alone.",
    "Export it without (skl2onnx: options={'zipmap': False}).",
    "onnxruntime_backend: src/onnxruntime_utils.cc",
)
OPEN = Rule(
    "TMR811",
    "output-size-not-told",
    Level.WARNING,
    "The config gives a size of an output that the artifact leaves open.",
    "ONNX Runtime's backend takes it only where ONNX Runtime finds that size by itself, and refuses the model else.",
    "Write -1, or export it with the size.",
    "onnxruntime_backend: src/onnxruntime_utils.cc CompareDimsSupported",
)
RULES: tuple[Rule, ...] = (
    UNKNOWN_INPUT,
    UNKNOWN_OUTPUT,
    COUNT,
    DATA_TYPE,
    DIMS,
    BATCH_AXIS,
    AUTOFILL,
    WEIGHTS,
    NO_TENSOR,
    OPEN,
)


def weights(model: Model, found: Network, artifact: Artifact) -> Iterator[Finding]:
    for why in found.missing:
        yield model.finding_at(WEIGHTS, artifact.path, f"{artifact.path.name} needs a file beside it: {why}")


def inputs(model: Model, found: Network, expected: int, given: Iterable[str]) -> Iterator[Finding]:
    """Names of inputs in the config and in the artifact; `expected`: how many the backend makes of the config's."""
    takes = len(found.inputs)
    # The backend counts before it looks at names.
    counted = f"configuration expects {expected} inputs, model provides {takes}" if expected != takes else ""
    strangers = list(unknown(model, "input", (*found.inputs, *found.defaults), counted))
    yield from strangers
    known = set(given)
    absent = [tensor.name for tensor in found.inputs if not known & set(tensor.names)]
    if counted and (absent or not strangers):
        names = ", ".join(absent) or f"{takes} in all"
        message = f"the artifact takes inputs that the config does not give: {names}"
        yield model.finding(COUNT, message, "input", server=counted)


def unknown(model: Model, field: str, tensors: Sequence[Tensor], counted: str = "") -> Iterator[Finding]:
    """Those of the config's inputs or outputs that the artifact does not have."""
    rule = UNKNOWN_INPUT if field == "input" else UNKNOWN_OUTPUT
    listed = sorted(tensor.name for tensor in tensors)
    for place, given in enumerate(getattr(model.filled, field)):
        if named(tuple(tensors), given.name) is None:
            server = f"unexpected inference {field} '{given.name}', allowed {field}s are: {', '.join(listed)}"
            message = f"the artifact has no {field} {given.name!r}; it has {', '.join(listed) or 'none'}"
            mend = _nearest(given.name, listed)
            yield model.finding(rule, message, field, place, "name", server=counted or server, mend=mend)


def expected_inputs(filled: Any, optional: bool = False) -> int:
    """How many inputs a config comes to: with what batches and sequences add, without what may be left out."""
    count = len(filled.input) + len(filled.batch_input)
    if optional:
        count -= sum(each.optional for each in filled.input)
    sequence = filled.sequence_batching
    kinds = {control.kind for each in sequence.control_input for control in each.control}
    return count + len(kinds) + len(sequence.state)


def given_names(filled: Any) -> set[str]:
    """Of the inputs that every request has."""
    sequence = filled.sequence_batching
    names = {each.name for each in filled.input if not each.optional}
    names |= {each.name for each in sequence.control_input}
    names |= {each.input_name for each in sequence.state}
    return names | {name for each in filled.batch_input for name in each.target_name}


def dims_of(given: Any) -> tuple[int, ...]:
    """What the backend sees: the reshape where there is one."""
    return tuple(given.reshape.shape if given.HasField("reshape") else given.dims)


def shown(shape: Sequence[int]) -> str:
    """As the server writes it."""
    return f"[{','.join(map(str, shape))}]"


def data_type(given: Any) -> str:
    """Without TYPE_, as readers of artifacts have it."""
    field = given.DESCRIPTOR.fields_by_name["data_type"]
    value = field.enum_type.values_by_number.get(given.data_type)
    return value.name.removeprefix("TYPE_") if value else ""


def dims_differ(model: Model, field: str, place: int, shape: Sequence[int], full: Sequence[int]) -> Finding:
    """`full`: the config's dims with what stands for the batch axis before them, where there is one."""
    given = getattr(model.filled, field)[place]
    batched = model.filled.max_batch_size > 0
    dims = f"{shown(full)} with the batch axis before its dims" if batched else shown(full)
    server = f"tensor '{given.name}': the model expects {len(shape)} dimensions (shape "
    message = f"{field} {given.name!r} is {shown(shape)} in the artifact, and the config makes it {dims}"
    where = "reshape" if given.HasField("reshape") else "dims"
    return model.finding(DIMS, message, field, place, where, server=server)


def fits(shape: Sequence[int], full: Sequence[int]) -> bool:
    """Whether an input of the config may go into the artifact's."""
    return len(shape) == len(full) and all(mine in (ANY, theirs) for mine, theirs in zip(shape, full, strict=True))


def _nearest(name: str, listed: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, listed, 1)
    return f"write {found[0]!r}, if that is what is meant" if found else ""
