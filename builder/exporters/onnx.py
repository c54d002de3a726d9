"""ONNX by torch.export: Triton's `onnxruntime` backend."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from builder.types import NETWORK_INPUT, NETWORK_OUTPUT, Predict

if TYPE_CHECKING:
    import torch
    from torch import nn

FILENAME = "model.onnx"
BACKEND = "onnxruntime"
PRECISIONS: tuple[str, ...] = ("fp32",)
VERSIONED: tuple[str, ...] = ("torch", "onnx", "onnxruntime")

# What the exporter's operators are written in; newer sets would only be converted up from it.
OPSET = 18
# Protocol buffers end at 2 GiB; past this the weights go to a file of their own beside the graph.
ONE_FILE_BYTES = 1_900_000_000


def export(module: nn.Module, example: torch.Tensor, path: Path) -> None:
    import torch

    weights_bytes = sum(tensor.nbytes for tensor in module.state_dict().values())
    with warnings.catch_warnings(), _silence(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            str(path),
            input_names=[NETWORK_INPUT],
            output_names=[NETWORK_OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            opset_version=OPSET,
            dynamo=True,
            external_data=weights_bytes > ONE_FILE_BYTES,
            verbose=False,
        )


@contextmanager
def _silence() -> Iterator[None]:
    """torch.export logs and prints pages of its own code; what matters of it is in the exception."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def load(path: Path, threads: int) -> Predict:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(batch: torch.Tensor) -> torch.Tensor:
        (outputs,) = session.run([NETWORK_OUTPUT], {NETWORK_INPUT: batch.numpy()})
        return torch.from_numpy(outputs)

    return predict


def thread_parameters(threads: int) -> dict[str, str]:
    return {"intra_op_thread_count": str(threads), "inter_op_thread_count": "1"}
