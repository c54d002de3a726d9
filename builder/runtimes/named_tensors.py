"""Requests of named tensors, put together into batches for whatever runs the model, and taken apart again.

Lies beside the model.py of each backend, inside the server's Python stub, so it imports nothing of this project.
"""

from collections.abc import Iterable
from typing import Any

import triton_python_backend_utils as pb_utils

Given = dict[str, Any]
"""Arrays by the config's names; an optional input may be missing."""


class NamedTensorsModel:
    """What a backend's model is built on: it says how tensors are read, joined, computed and written."""

    OVERWRITES = False
    """Whether the next computation writes where the last one's outputs lie."""

    def read(self, tensor: Any, data_type: str) -> Any:
        """An array of the server's tensor."""
        raise NotImplementedError

    def write(self, name: str, array: Any) -> Any:
        """The server's tensor of an array."""
        raise NotImplementedError

    def join(self, arrays: list[Any]) -> Any:
        """One behind the other along the first axis."""
        raise NotImplementedError

    def compute(self, given: Given) -> list[Any]:
        """The outputs in the config's order."""
        raise NotImplementedError

    def copy(self, array: Any) -> Any:
        return array.copy()

    def take_names(self, config: dict[str, Any]) -> None:
        """What the config says of the tensors; called once, when the model is loaded."""
        self.inputs = types_by_name(config["input"])
        self.outputs = types_by_name(config["output"])
        self.is_batched = int(config.get("max_batch_size", 0)) > 0

    def execute(self, requests: list[Any]) -> list[Any]:
        given = [self._given(request) for request in requests]
        groups = self._groups(given)
        if len(groups) == 1:
            return self._answers(requests, given, groups[0], keep=False)
        answers: dict[int, Any] = {}
        for numbers in groups:
            answers |= zip(numbers, self._answers(requests, given, numbers, keep=self.OVERWRITES), strict=True)
        return [answers[number] for number in range(len(requests))]

    def _given(self, request: Any) -> Given:
        found = {}
        for name, data_type in self.inputs.items():
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is not None:
                found[name] = self.read(tensor, data_type)
        return found

    def _groups(self, given: list[Given]) -> list[list[int]]:
        """The requests' numbers, those together that can be joined: equal in all sizes but the batch."""
        if len(given) == 1:
            return [[0]]
        if not self.is_batched:
            return [[number] for number in range(len(given))]
        groups: dict[Any, list[int]] = {}
        for number, arrays in enumerate(given):
            key = tuple((name, tuple(array.shape[1:])) for name, array in arrays.items())
            groups.setdefault(key, []).append(number)
        return list(groups.values())

    def _answers(self, requests: list[Any], given: list[Given], numbers: list[int], keep: bool) -> list[Any]:
        """One response each. What fails fails these requests, and not the others that came along."""
        try:
            parts = [given[number] for number in numbers]
            outputs = self.compute(parts[0] if len(parts) == 1 else self._joined(parts))
            rows = self._rows([self.copy(array) for array in outputs] if keep else outputs, parts)
            return [self._response(requests[number], arrays) for number, arrays in zip(numbers, rows, strict=True)]
        except Exception as error:  # of any runtime
            told = pb_utils.TritonError(str(error) or type(error).__name__)
            return [pb_utils.InferenceResponse([], told) for _ in numbers]

    def _joined(self, parts: list[Given]) -> Given:
        return {name: self.join([arrays[name] for arrays in parts]) for name in parts[0]}

    def _rows(self, outputs: list[Any], parts: list[Given]) -> Iterable[list[Any]]:
        """The outputs of each request."""
        if not self.is_batched:
            return [[array if array.shape else array.reshape(1) for array in outputs]]
        sizes = [len(next(iter(arrays.values()))) for arrays in parts]
        for name, array in zip(self.outputs, outputs, strict=True):
            if not array.shape or len(array) != sum(sizes):
                raise ValueError(f"{name} is of {list(array.shape)} for a batch of {sum(sizes)}")
        return [outputs] if len(parts) == 1 else _split(outputs, sizes)

    def _response(self, request: Any, arrays: list[Any]) -> Any:
        wanted = request.requested_output_names()
        named = zip(self.outputs, arrays, strict=True)
        return pb_utils.InferenceResponse([self.write(name, array) for name, array in named if name in wanted])


def _split(outputs: list[Any], sizes: list[int]) -> Iterable[list[Any]]:
    start = 0
    for size in sizes:
        yield [array[start : start + size] for array in outputs]
        start += size


def types_by_name(tensors: list[dict[str, Any]]) -> dict[str, str]:
    """Triton's data types without TYPE_, in the config's order."""
    return {tensor["name"]: tensor["data_type"].removeprefix("TYPE_") for tensor in tensors}


def refuse_types(model: NamedTensorsModel, types: set[str], because: str) -> None:
    """Raise for tensors that the backend cannot be given, while the model is loaded."""
    for name, data_type in (model.inputs | model.outputs).items():
        if data_type in types:
            raise pb_utils.TritonModelException(f"{name} is {data_type}: {because}")


def by_place(names: Iterable[str], known: list[str]) -> list[str]:
    """The names in the order in which a model takes them: its own, if they are those; else as `<name>__<index>` says.

    So NVIDIA's backend of the same name orders them, and takes them as they stand where neither tells.
    """
    listed = list(names)
    if set(listed) <= set(known):
        return sorted(listed, key=known.index)
    places = [name.rpartition("__")[2] for name in listed]
    if all(place.isdecimal() for place in places):
        return [name for _, name in sorted(zip(map(int, places), listed, strict=True))]
    return listed
