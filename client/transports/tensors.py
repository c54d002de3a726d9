"""Inferences as tritonclient takes them; its classes for gRPC and HTTP are built alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from client.types import Inference, Tensor

if TYPE_CHECKING:
    from client.types import Array


def arguments(module: Any, inference: Inference) -> dict[str, Any]:
    """Keyword arguments of `infer`; `module` is tritonclient.grpc or tritonclient.http."""
    outputs = [module.InferRequestedOutput(o.name, class_count=o.class_count) for o in inference.outputs]
    return {
        "model_name": inference.model,
        "inputs": [_input(module, tensor) for tensor in inference.tensors],
        "outputs": outputs,
    }


def arrays(inference: Inference, result: Any) -> dict[str, Array]:
    return {output.name: result.as_numpy(output.name) for output in inference.outputs}


def _input(module: Any, tensor: Tensor) -> Any:
    from tritonclient.utils import np_to_triton_dtype

    made = module.InferInput(tensor.name, list(tensor.data.shape), np_to_triton_dtype(tensor.data.dtype))
    if tensor.region:
        made.set_shared_memory(tensor.region, tensor.size, tensor.offset)
    else:
        made.set_data_from_numpy(tensor.data)
    return made
