"""What a file computes last: an activation that is there already is not to be followed by another."""

from __future__ import annotations

from typing import Any

from builder.errors import ExportError

SHAPING = ("Cast", "Convert", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
"""Operators of ONNX and of OpenVINO that leave the numbers as they are."""


def require_scores(last: str, file: str) -> None:
    """Raise ExportError where the operator `last` gives probabilities, which a second activation would flatten."""
    if last not in ("Sigmoid", "HardSigmoid", "Softmax", "SoftMax"):
        return
    several = " and `multilabel: true`" if "igmoid" in last else ""
    raise ExportError(
        f"{file} ends with a {last} already, and a second activation would flatten its probabilities: 0.99 becomes "
        f"0.73. Say `activation: none`{several}"
    )


def last_of_graph(graph: Any) -> str:
    """The operator of ONNX that computes the one output; empty where none does."""
    made = {name: node for node in graph.node for name in node.output}
    node = made.get(graph.output[0].name)
    while node is not None and node.op_type in SHAPING:
        node = made.get(node.input[0]) if node.input else None
    return str(node.op_type) if node is not None else ""


def last_of_model(model: Any) -> str:
    """The operation of OpenVINO that computes the one output."""
    node = model.outputs[0].get_node().input_value(0).get_node()
    while node.get_type_name() in SHAPING:
        node = node.input_value(0).get_node()
    return str(node.get_type_name())
