"""A format: one linear layer, written down as the source of a model for Triton's Python backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.triton.signature import Signature
from builder.types import ExportRequest, Predict, Target, Tensors

if TYPE_CHECKING:
    import torch

FILENAME = "model.py"
BACKEND = "python"
PLATFORM = ""
PER_GPU = False
PRECISIONS: dict[str, tuple[str, ...]] = {"cpu": ("fp32",), "gpu": ()}
NAMES_TENSORS = True
OPTIONS = None
VERSIONED: tuple[str, ...] = ()
SUFFIXES: tuple[str, ...] = ()

SOURCE = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils

FACTS = json.loads({facts!r})


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([self.answer(request)]) for request in requests]

    def answer(self, request):
        given = pb_utils.get_input_tensor_by_name(request, FACTS["input"]).as_numpy()
        answer = given @ np.array(FACTS["weight"], np.float32).T + np.array(FACTS["bias"], np.float32)
        return pb_utils.Tensor(FACTS["output"], answer.astype(np.float32))
"""


def refusal(target: Target) -> str:
    return ""


def objection(options: object, max_batch_size: int) -> tuple[str, str] | None:
    return None


def export(request: ExportRequest) -> dict[str, str]:
    layer: Any = request.module.network
    (given,), (answer,) = request.signature.inputs, request.signature.outputs
    facts = {"input": given.name, "output": answer.name, "weight": layer.weight.tolist(), "bias": layer.bias.tolist()}
    request.path.write_text(SOURCE.format(facts=json.dumps(facts)))
    return {}


def load(path: Path, target: Target, signature: Signature) -> Predict:
    """The facts are read out of the source: what would run in the server cannot be imported here."""
    import torch

    literal = next(line for line in path.read_text().splitlines() if line.startswith("FACTS = "))
    facts = json.loads(literal.removeprefix("FACTS = json.loads('").removesuffix("')"))
    weight, bias = torch.tensor(facts["weight"]), torch.tensor(facts["bias"])

    def predict(tensors: Tensors) -> dict[str, torch.Tensor]:
        return {facts["output"]: tensors[facts["input"]] @ weight.T + bias}

    return predict


def parameters(target: Target) -> dict[str, str]:
    return {}
