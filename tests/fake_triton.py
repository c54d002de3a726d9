"""A Triton whose behaviour a test chooses. Real gRPC, real protocol messages."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

Behaviour = Callable[[int, Any, grpc.ServicerContext], None]
Shapes = dict[str, tuple[str, list[int]]]
"""Types and shapes by name."""


@dataclass
class Named:
    """A model of named tensors; unless `answer` says otherwise, its outputs are its inputs, one by one."""

    inputs: Shapes
    outputs: Shapes
    max_batch_size: int = 0
    optional: tuple[str, ...] = ()
    task: str = "tensors"
    platform: str = "onnxruntime_onnx"
    versions: tuple[str, ...] = ("1",)
    answering: str = "1"
    """The version that answers."""
    parameters: dict[str, str] = field(default_factory=dict)
    of_version: dict[str, dict[str, str]] = field(default_factory=dict)
    """Parameters of versions whose config is another."""
    answer: Callable[[Any], dict[str, tuple[list[int], bytes]]] | None = None
    """Shapes and bytes of the outputs, for a request."""

    def answered(self, request: Any) -> dict[str, tuple[list[int], bytes]]:
        if self.answer:
            return self.answer(request)
        names = dict(zip(self.inputs, self.outputs, strict=True))
        given = zip(request.inputs, request.raw_input_contents, strict=True)
        return {names[one.name]: (list(one.shape), raw) for one, raw in given}


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Serves one classifier, and `named` models; `behave(call, request, context)` may refuse or delay an inference."""

    def __init__(self) -> None:
        self.behave: Behaviour = lambda *_: None
        self.names = ["pets"]
        self.ready = True
        self.parameters: dict[str, str] = {}
        """Of its model's config."""
        self.shape = [-1, 2]
        """Of the output."""
        self.labels = (b"dog: large", b"cat")
        self.cells: list[bytes] | None = None
        """Of the classification extension, the best first; 0.75 and 0.25 where None."""
        self.named: dict[str, Named] = {}
        self.requests: list[Any] = []
        """Of the named models."""
        self.probabilities: Callable[[bytes], tuple[float, float]] = lambda _: (0.25, 0.75)
        self.calls = 0
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        response = service_pb2.RepositoryIndexResponse()
        for name in (*self.names, *self.named):
            response.models.add(name=name, version="1", state="READY")
        response.models.add(name="loading", state="LOADING")
        return response

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        if model := self.named.get(request.name):
            meta = service_pb2.ModelMetadataResponse(
                name=request.name, versions=model.versions, platform=model.platform
            )
            for kind, tensors in ((meta.inputs, model.inputs), (meta.outputs, model.outputs)):
                for name, (datatype, shape) in tensors.items():
                    kind.add(name=name, datatype=datatype, shape=shape)
            return meta
        if request.name not in self.names:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
        meta = service_pb2.ModelMetadataResponse(name=request.name, versions=["1"], platform="ensemble")
        meta.inputs.add(name="IMAGE", datatype="BYTES", shape=[-1, 1])
        meta.outputs.add(name="PROBABILITIES", datatype="FP32", shape=self.shape)
        return meta

    def ModelConfig(self, request: Any, context: Any) -> Any:
        if model := self.named.get(request.name):
            config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=model.max_batch_size)
            for name in model.inputs:
                config.input.add(name=name, optional=name in model.optional)
            if model.task:
                config.parameters["task"].string_value = model.task
            for key, value in model.of_version.get(request.version, model.parameters).items():
                config.parameters[key].string_value = value
            return service_pb2.ModelConfigResponse(config=config)
        config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=4)
        for key, value in self.parameters.items():
            config.parameters[key].string_value = value
        return service_pb2.ModelConfigResponse(config=config)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=self.ready)

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.name in (*self.names, *self.named))

    def ModelStatistics(self, request: Any, context: Any) -> Any:
        response = service_pb2.ModelStatisticsResponse()
        for name in self.names:
            item = response.model_stats.add(name=name, version="1", inference_count=self.calls)
            item.inference_stats.success.count = self.calls
        return response

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.calls += 1
            call = self.calls
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.behave(call, request, context)
        finally:
            with self._lock:
                self.at_once -= 1
        if model := self.named.get(request.model_name):
            self.requests.append(request)
            return _named_answer(model, request)
        count = request.inputs[0].shape[0]
        response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        if most := request.outputs[0].parameters["classification"].int64_param:
            cells = self.cells or [b"0.750000:1:" + self.labels[0], b"0.250000:0:" + self.labels[1]]
            cells = cells[:most]
            response.outputs.add(name="PROBABILITIES", datatype="BYTES", shape=[count, len(cells)])
            row = b"".join(len(cell).to_bytes(4, "little") + cell for cell in cells)
            response.raw_output_contents.append(row * count)
        else:
            response.outputs.add(name="PROBABILITIES", datatype="FP32", shape=[count, 2])
            rows = [self.probabilities(data) for data in _elements(request.raw_input_contents[0])]
            response.raw_output_contents.append(np.float32(rows).tobytes())
        return response


def _named_answer(model: Named, request: Any) -> Any:
    response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=model.answering)
    answers = model.answered(request)
    for name in (output.name for output in request.outputs if output.name in answers):
        shape, raw = answers[name]
        response.outputs.add(name=name, datatype=model.outputs[name][0], shape=shape)
        response.raw_output_contents.append(raw)
    return response


def _elements(raw: bytes) -> Iterator[bytes]:
    """The elements of a BYTES tensor."""
    while raw:
        size = int.from_bytes(raw[:4], "little")
        yield raw[4 : 4 + size]
        raw = raw[4 + size :]


def refuse(status: grpc.StatusCode, times: float = float("inf"), message: str = "no") -> Behaviour:
    def behave(call: int, _: Any, context: grpc.ServicerContext) -> None:
        if call <= times:
            context.abort(status, message)

    return behave


@contextmanager
def serving(credentials: grpc.ServerCredentials | None = None, port: int = 0) -> Iterator[tuple[FakeTriton, str]]:
    """The servicer and its address. With a port, a server that comes back where it was."""
    servicer = FakeTriton()
    server = grpc.server(ThreadPoolExecutor(32))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    address = f"127.0.0.1:{port}"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(30)
