"""Inferences as tritonclient takes them; its classes for gRPC and HTTP are built alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from client.types import Answer, Inference, Tensor

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


def arrays(inference: Inference, result: Any) -> Answer:
    answer = Answer({output.name: result.as_numpy(output.name) for output in inference.outputs})
    response = result.get_response()  # of gRPC a message, of HTTP a mapping
    is_mapping = isinstance(response, dict)
    answer.version = str(response.get("model_version", "") if is_mapping else response.model_version)
    return answer


def _input(module: Any, tensor: Tensor) -> Any:
    from tritonclient.utils import np_to_triton_dtype

    datatype = tensor.datatype or np_to_triton_dtype(tensor.data.dtype)
    made = module.InferInput(tensor.name, list(tensor.data.shape), datatype)
    if tensor.region:
        made.set_shared_memory(tensor.region, tensor.size, tensor.offset)
    else:
        made.set_data_from_numpy(_bf16(tensor.data) if datatype == "BF16" else tensor.data)
    return made


def _bf16(bits: Array) -> Array:
    """As this release of tritonclient takes it: with a type of its own, or, before 26.06, as float32."""
    import numpy as np
    from tritonclient.utils import triton_to_np_dtype

    dtype = np.dtype(triton_to_np_dtype("BF16"))
    if dtype.itemsize == bits.itemsize:
        return bits.view(dtype)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
