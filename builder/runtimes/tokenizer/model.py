"""Texts in, rows of token numbers out: a tokenizer.json, as the tokenizers library reads it.

Published into the repository as the `model.py` of a python-backend model, its tokenizer.json beside it, so it needs
nothing but NumPy and tokenizers. All texts of one execution, whatever requests they are of, become rows of one length:
only then can the network's batcher join them.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.int64]]

FILE = "tokenizer.json"
FEW = 4096
"""Characters that are read sooner than other threads are awake, on cores that a network keeps busy."""
SHOWN = 80
"""Characters of what the library says of a text that it cannot take."""


class TextError(ValueError):
    """The sender's text is at fault, not the server."""


class Tokenizer:
    """A tokenizer with what a recipe says of it; the file's own padding and truncation do not count."""

    def __init__(self, recipe: dict[str, Any], file: Path) -> None:
        import tokenizers

        self._recipe = recipe
        self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(recipe["max_length"], direction=recipe["truncation_side"])

    def __call__(self, data: bytes) -> tuple[Array, ...]:
        """One text in UTF-8 -> int64 [S]: token numbers, mask, and kinds of tokens if the network takes them.

        Raises TextError.
        """
        (found,) = self.encoded([data])
        if isinstance(found, TextError):
            raise found
        return tuple(rows[0] for rows in self.rows([found]))

    def encoded(self, texts: Sequence[bytes]) -> "list[Any]":
        """Of each text its encoding, or the TextError that says what is wrong with it."""
        checked = [self._checked(data) for data in texts]
        good = [text for text in checked if isinstance(text, str)]
        found = iter(self._encoded(good) if good else [])
        return [next(found) if isinstance(text, str) else text for text in checked]

    def rows(self, encodings: Sequence[Any], width: int = 1) -> tuple[Array, ...]:
        """int64 [texts, S] each, padded to the longest of them, or to `width`, whichever is more."""
        recipe = self._recipe
        kinds = recipe["takes_types"]
        tokens = [encoding.ids for encoding in encodings]
        most = max(width, *map(len, tokens), 1)
        shape = (len(tokens), most)
        numbers, mask = np.full(shape, recipe["pad_id"], np.int64), np.zeros(shape, np.int64)
        types = [np.full(shape, recipe["pad_type_id"], np.int64)] if kinds else []
        for row, encoding in enumerate(encodings):
            count = len(tokens[row])
            place = slice(most - count, most) if recipe["padding_side"] == "left" else slice(0, count)
            numbers[row, place], mask[row, place] = tokens[row], 1
            for one in types:
                one[row, place] = encoding.type_ids
        return (numbers, mask, *types)

    def _checked(self, data: Any) -> "str | TextError":
        most = self._recipe["max_text_bytes"]
        if len(data) > most:
            return TextError(f"the text has {len(data)} bytes; at most {most} are accepted")
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            return TextError(f"the text is no UTF-8: the byte 0x{data[error.start]:02x} at {error.start}")

    def _encoded(self, texts: "list[str]") -> "list[Any]":
        if sum(map(len, texts)) < FEW:
            return [self._alone(text) for text in texts]
        try:
            return list(self._tokenizer.encode_batch_fast(texts))  # without places of tokens
        except BaseException as error:  # the library's panics are no Exceptions
            _pass_ends(error)
        # One of them, which has to fail alone.
        return [self._alone(text) for text in texts]

    def _alone(self, text: str) -> Any:
        try:
            return self._tokenizer.encode(text)
        except BaseException as error:
            _pass_ends(error)
            return TextError(f"the tokenizer cannot take the text: {str(error)[:SHOWN]}")


def _pass_ends(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        import triton_python_backend_utils as pb_utils

        self._pb = pb_utils
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        # Read when the library is first used; said at all, it does not warn of forks.
        os.environ["RAYON_NUM_THREADS"] = parameters["threads"]
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        self._input = config["input"][0]["name"]
        self._outputs = [output["name"] for output in config["output"]]
        file = Path(args["model_repository"], args["model_version"], FILE)
        self._tokenizer = Tokenizer(json.loads(parameters["recipe"]), file)

    def execute(self, requests: list[Any]) -> list[Any]:
        batches = [self._pb.get_input_tensor_by_name(r, self._input).as_numpy().ravel() for r in requests]
        found = iter(self._tokenizer.encoded([data for batch in batches for data in batch]))
        results = [[next(found) for _ in batch] for batch in batches]
        faults = [_fault(result) for result in results]
        good = [encoding for result, fault in zip(results, faults, strict=True) if not fault for encoding in result]
        rows = self._tokenizer.rows(good) if good else ()
        responses, start = [], 0
        for result, fault in zip(results, faults, strict=True):
            if fault:
                responses.append(self._refused(fault))
                continue
            responses.append(self._given([one[start : start + len(result)] for one in rows]))
            start += len(result)
        return responses

    def _given(self, rows: "list[Array]") -> Any:
        return self._pb.InferenceResponse(
            [self._pb.Tensor(name, one) for name, one in zip(self._outputs, rows, strict=True)]
        )

    def _refused(self, message: str) -> Any:
        return self._pb.InferenceResponse([], self._pb.TritonError(message, self._pb.TritonError.INVALID_ARG))


def _fault(results: "list[Any]") -> str:
    """What is wrong with a request's first text that cannot be taken; nothing where all can."""
    for index, result in enumerate(results):
        if isinstance(result, TextError):
            where = f"text {index + 1} of {len(results)}: " if len(results) > 1 else ""
            return where + str(result)
    return ""
