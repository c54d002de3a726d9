"""Inputs and outputs: names, types and shapes."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.rules.naming import UTILS, quoted

COMPLETING = frozenset({"onnxruntime", "openvino", "tensorrt", "tensorflow", "dali", "vllm", "tensorrtllm", "fil"})
"""Backends that fill in what inputs and outputs do not say."""
ANY = -1
MODEL = "core: src/model.cc"

NO_NAME = Rule(
    "TMR201",
    "tensor-without-name",
    Level.ERROR,
    "An input or output has no name.",
    "Requests name their tensors.",
    "Give it the name by which the model knows it.",
    UTILS,
)
NO_TYPE = Rule(
    "TMR202",
    "tensor-without-type",
    Level.ERROR,
    "An input or output has no data type.",
    "The backend does not fill it in, and the server must know it to check requests.",
    "Add `data_type`, such as TYPE_FP32.",
    UTILS,
)
NO_DIMS = Rule(
    "TMR203",
    "tensor-without-dims",
    Level.ERROR,
    "An input or output has no dims.",
    "The backend does not fill them in, and there are no tensors without a dimension.",
    "Add `dims`, without the batch axis where max_batch_size is above 0; -1 is any size.",
    UTILS,
)
EMPTY_RESHAPE = Rule(
    "TMR204",
    "empty-reshape",
    Level.ERROR,
    "A model without batches reshapes a tensor to nothing.",
    "Only the batch axis would be left, and there is none.",
    "Leave `reshape` out, or give a max_batch_size.",
    UTILS,
)
DIM = Rule(
    "TMR205",
    "impossible-dim",
    Level.ERROR,
    "A dimension is 0, or negative and not -1.",
    "Sizes are 1 or more; -1 says that it may be any.",
    "Write the size, or -1.",
    UTILS,
)
RESHAPE_DIM = Rule(
    "TMR206",
    "impossible-reshape-dim",
    Level.ERROR,
    "A dimension of a reshape is 0, or negative and not -1.",
    "Sizes are 1 or more; -1 says that it may be any.",
    "Write the size, or -1.",
    UTILS,
)
RESHAPE_SIZE = Rule(
    "TMR207",
    "reshape-of-another-size",
    Level.ERROR,
    "`dims` and `reshape` have different numbers of elements.",
    "A reshape moves no elements: before, between and behind dimensions of any size, both must have equally many.",
    "Make the products equal; to nothing, only one element can be reshaped.",
    UTILS,
)
RESHAPE_ANY = Rule(
    "TMR208",
    "reshape-with-other-wildcards",
    Level.ERROR,
    "`dims` and `reshape` have different numbers of dimensions of any size.",
    "Each -1 of one stands for a -1 of the other.",
    "Write as many -1 in `reshape` as in `dims`.",
    UTILS,
)
FORMAT = Rule(
    "TMR209",
    "image-format-without-three-dims",
    Level.ERROR,
    "An input has the format of an image, and not three dims.",
    "FORMAT_NHWC and FORMAT_NCHW are of images with channels; the batch axis is not among the dims.",
    "Leave `format` out, which no backend reads, or give three dims.",
    UTILS,
)
SHAPE_TENSOR = Rule(
    "TMR210",
    "shape-tensor-outside-tensorrt",
    Level.ERROR,
    "A tensor that is a shape is said to be of a model that is no TensorRT plan.",
    "Only TensorRT has shape tensors.",
    "Leave `is_shape_tensor` out.",
    UTILS,
)
LAYOUT = Rule(
    "TMR211",
    "layout-outside-tensorrt",
    Level.ERROR,
    "A tensor of a non-linear format is said to be of a model that is no TensorRT plan.",
    "Only TensorRT has them.",
    "Leave `is_non_linear_format_io` out.",
    UTILS,
)
LAYOUT_DIMS = Rule(
    "TMR212",
    "layout-without-three-dims",
    Level.ERROR,
    "A tensor of a non-linear format has not three dims.",
    "TensorRT's non-linear formats are of channels, height and width.",
    "Give three dims, or leave `is_non_linear_format_io` out.",
    UTILS,
)
NAME_TWICE = Rule(
    "TMR216",
    "tensor-twice",
    Level.WARNING,
    "Two inputs, or two outputs, have the same name.",
    "The server knows tensors by their names, and forgets the second.",
    "Remove one, or give it its own name.",
    MODEL,
)
UNKNOWN_TYPE = Rule(
    "TMR218",
    "data-type-without-name",
    Level.WARNING,
    "A data type is a number that means nothing.",
    "The server loads the model, and no request can have this type.",
    "Write one of the names, such as TYPE_FP32.",
    UTILS,
)
BATCH_SIZE = Rule(
    "TMR219",
    "negative-batch-size",
    Level.ERROR,
    "max_batch_size is negative.",
    "It is the largest batch that the model takes, and 0 says that its tensors have no batch axis at all.",
    "Write 0, or the largest batch.",
    UTILS,
)
RULES = (
    *(NO_NAME, NO_TYPE, NO_DIMS, EMPTY_RESHAPE, DIM, RESHAPE_DIM, RESHAPE_SIZE, RESHAPE_ANY, FORMAT, SHAPE_TENSOR),
    *(LAYOUT, LAYOUT_DIMS, NAME_TWICE, UNKNOWN_TYPE, BATCH_SIZE),
)


def check(model: Model, context: Context) -> Iterator[Finding]:
    if (size := model.config.message.max_batch_size) < 0:
        server = f"'max_batch_size' must be non-negative value for {model.filled.name}"
        yield model.finding(BATCH_SIZE, f"max_batch_size is {size}", "max_batch_size", server=server)
    is_completed = _Completed(model, context)
    for field in ("input", "output"):
        names: set[str] = set()
        for place, tensor in enumerate(getattr(model.filled, field)):
            yield from _Tensor(model, field, place, tensor).findings(is_completed)
            if tensor.name and tensor.name in names:
                yield model.finding(NAME_TWICE, f"there are two {field}s {quoted(tensor.name)}", field, place, "name")
            names.add(tensor.name)


class _Completed:
    """Whether the backend may fill in what an input or output does not say. Asked only where something is missing."""

    def __init__(self, model: Model, context: Context) -> None:
        self._model, self._is_strict = model, context.strict

    def __call__(self) -> bool:
        if self._is_strict:
            return False
        backend = self._model.filled.backend
        return backend in COMPLETING or (backend == "python" and self._completes_itself())

    def _completes_itself(self) -> bool:
        file = self._model.filled.default_model_filename or "model.py"
        return any(_mentions(folder / file, b"auto_complete_config") for folder in self._model.version_folders.values())


def _mentions(file: Path, word: bytes) -> bool:
    try:
        # A pipe would never end, and what is that large is no code that somebody wrote.
        status = file.stat()
        return stat.S_ISREG(status.st_mode) and status.st_size < 2**22 and word in file.read_bytes()
    except (OSError, ValueError):
        return False


class _Tensor:
    def __init__(self, model: Model, field: str, place: int, tensor: Any) -> None:
        self._model, self._field, self._place, self._tensor = model, field, place, tensor
        self._said = f"model {field} '{tensor.name}' "
        self._named = f"the {field} {quoted(tensor.name)}" if tensor.name else f"{field} {place}"

    def findings(self, is_completed: Callable[[], bool]) -> Iterator[Finding]:
        tensor = self._tensor
        if not tensor.name:
            yield self._finding(NO_NAME, "has no name", server=f"model {self._field} must specify 'name'")
        if not tensor.data_type and not is_completed():
            yield self._finding(NO_TYPE, "has no data type", server=f"{self._said}must specify 'data_type'")
        if not tensor.dims and not is_completed():
            yield self._finding(NO_DIMS, "has no dims", server=f"{self._said}must specify 'dims'")
        if tensor.data_type not in tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number:
            yield self._finding(UNKNOWN_TYPE, f"has the data type {tensor.data_type}", "data_type")
        yield from self._shape()
        yield from self._tensorrt()

    def _finding(self, rule: Rule, message: str, *path: str | int, server: str = "") -> Finding:
        return self._model.finding(rule, f"{self._named} {message}", self._field, self._place, *path, server=server)

    def _shape(self) -> Iterator[Finding]:
        tensor = self._tensor
        wrong = list(self._wrong(DIM, tensor.dims, "dims", "dimension"))
        if tensor.HasField("reshape"):
            shape = tensor.reshape.shape
            wrong += self._wrong(RESHAPE_DIM, shape, "reshape", "reshape dimensions")
            if not shape and not self._model.filled.max_batch_size:
                server = f"{self._said}cannot have empty reshape for non-batching model"
                yield self._finding(EMPTY_RESHAPE, "is reshaped to nothing", "reshape", server=server)
            elif tensor.dims and not wrong:
                yield from self._reshape(list(tensor.dims), list(shape))
        yield from wrong
        if getattr(tensor, "format", 0) in (1, 2) and tensor.dims and len(tensor.dims) != 3:
            message = f"has {len(tensor.dims)} dims, and an image has three"
            yield self._finding(FORMAT, message, "format", server="model input NHWC/NCHW require 3 dims")

    def _wrong(self, rule: Rule, dims: Any, field: str, name: str) -> Iterator[Finding]:
        path = (field,) if field == "dims" else (field, "shape")
        for place, dim in enumerate(dims):
            if dim < 1 and dim != ANY:
                # The server tells the first of a tensor, and so do we: one mistake is made all over it.
                server = f"{self._said}{name} must be integer >= 1, or -1 to indicate a variable-size dimension"
                yield self._finding(rule, f"has the size {dim} in {field}", *path, place, server=server)
                return

    def _reshape(self, dims: list[int], shape: list[int]) -> Iterator[Finding]:
        ours, theirs = _trunks(dims), _trunks(shape)
        known = (_count(dims), _count(shape))
        if known[0] != known[1] and (shape or known[0] != 1):
            yield self._resized(dims, shape)
        elif len(ours) != len(theirs):
            server = f"{self._said}has different number of variable-size dimensions for dims and reshape"
            message = f"has {len(ours) - 1} dimensions of any size in dims and {len(theirs) - 1} in reshape"
            yield self._finding(RESHAPE_ANY, message, "reshape", server=server)
        elif ANY in dims and ours != theirs:
            yield self._resized(dims, shape)

    def _resized(self, dims: list[int], shape: list[int]) -> Finding:
        server = f"{self._said}has different size for dims and reshape"
        return self._finding(RESHAPE_SIZE, f"cannot be reshaped from {dims} to {shape}", "reshape", server=server)

    def _tensorrt(self) -> Iterator[Finding]:
        tensor, is_plan = self._tensor, self._model.filled.platform == "tensorrt_plan"
        if tensor.is_shape_tensor and not is_plan:
            server = "shape tensors are only supported for TensorRT platform"
            yield self._finding(SHAPE_TENSOR, "is said to be a shape", "is_shape_tensor", server=server)
        if not tensor.is_non_linear_format_io:
            return
        if not is_plan:
            server = "Non-linear IO format is only supported for the TensorRT platform"
            yield self._finding(
                LAYOUT, "is said to be of a non-linear format", "is_non_linear_format_io", server=server
            )
        elif tensor.dims and len(tensor.dims) != 3:
            server = f"Non-linear IO format {self._field} requires 3 dims"
            message = f"is of a non-linear format, and has {len(tensor.dims)} dims"
            yield self._finding(LAYOUT_DIMS, message, "is_non_linear_format_io", server=server)


def _count(dims: list[int]) -> int:
    """Of elements, as the server counts them; -1 where any size is among them, 0 of nothing."""
    if ANY in dims:
        return ANY
    return _product(dims) if dims else 0


def _trunks(dims: list[int]) -> list[int]:
    """Elements before, between and behind what may have any size."""
    trunks: list[list[int]] = [[]]
    for dim in dims:
        if dim == ANY:
            trunks.append([])
        else:
            trunks[-1].append(dim)
    return [_product(trunk) for trunk in trunks]


def _product(dims: list[int]) -> int:
    """In 64 bits, as the server multiplies."""
    count = 1
    for dim in dims:
        count = (count * dim) & (2**64 - 1)
    return count
