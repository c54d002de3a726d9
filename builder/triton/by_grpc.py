"""A server's models controlled by gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from builder.errors import RolloutError
from builder.triton.connection import ANSWER_SECONDS, Access, Answer, Raw, Row, Tensor, as_json, away, odd, refusal
from builder.triton.control import grpc_headers

LARGEST_FILES = 1 << 30
"""Bytes of files in one call: protobuf's messages end at twice that."""
# gRPC's words for what is no gRPC: a proxy, or a server of HTTP/1.
FOREIGN = ("http1.x server", "Received http2 header with status", "frame", "preface")
# Its words, with UNKNOWN, for a stream that ended before its answer did: a server that is killed meanwhile says so, and
# what never spoke Triton's protocol too.
CUT_SHORT = "Stream removed"


class ByGrpc:
    largest_files = LARGEST_FILES

    def __init__(self, access: Access) -> None:
        import grpc  # type: ignore[import-untyped,unused-ignore]
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        self.access = access
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        if access.is_local:
            options.append(("grpc.enable_http_proxy", 0))
        self._channel = (
            grpc.secure_channel(access.address, _credentials(access), options)
            if access.is_secure
            else grpc.insecure_channel(access.address, options)
        )
        self._errors, self._codes = grpc.RpcError, grpc.StatusCode
        self._messages = service_pb2
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._spoke = False
        self._metadata = tuple(grpc_headers(access.admin_key).items())

    def close(self) -> None:
        self._channel.close()

    def server_version(self) -> str:
        found = self._call(self._stub.ServerMetadata, self._messages.ServerMetadataRequest())
        if found.name != "triton":
            raise odd(self.access, f"it calls itself {found.name!r}")
        return str(found.version)

    def repository_index(self) -> list[Row]:
        found = self._call(self._stub.RepositoryIndex, self._messages.RepositoryIndexRequest())
        return [Row(m.name, int(m.version) if m.version else None, m.state, m.reason) for m in found.models]

    def is_model_ready(self, name: str, version: int | None = None) -> bool:
        request = self._messages.ModelReadyRequest(name=name, version=_text(version))
        try:
            return bool(self._call(self._stub.ModelReady, request).ready)
        except RolloutError as error:
            if type(error) is not RolloutError:
                raise
            return False  # it was never heard of

    def model_config(self, name: str, version: int | None = None) -> Any:
        request = self._messages.ModelConfigRequest(name=name, version=_text(version))
        return self._call(self._stub.ModelConfig, request).config

    def load_model(
        self, name: str, config: Any = None, files: Mapping[str, bytes] | None = None, seconds: float = ANSWER_SECONDS
    ) -> None:
        request = self._messages.RepositoryModelLoadRequest(model_name=name)
        if config is not None:
            request.parameters["config"].string_param = as_json(config)
        for path, content in (files or {}).items():
            request.parameters[f"file:{path}"].bytes_param = content
        self._call(self._stub.RepositoryModelLoad, request, seconds, f"it was not loaded within {seconds:g} s")

    def unload_model(self, name: str, seconds: float = ANSWER_SECONDS) -> None:
        request = self._messages.RepositoryModelUnloadRequest(model_name=name)
        self._call(self._stub.RepositoryModelUnload, request, seconds, f"it was not unloaded within {seconds:g} s")

    def infer(
        self, name: str, inputs: Sequence[Tensor], version: int | None = None, seconds: float = ANSWER_SECONDS
    ) -> Answer:
        request = self._messages.ModelInferRequest(model_name=name, model_version=_text(version))
        for tensor in inputs:
            request.inputs.add(name=tensor.name, datatype=tensor.data_type, shape=tensor.shape)
            request.raw_input_contents.append(tensor.data)
        found = self._call(self._stub.ModelInfer, request, seconds, f"it did not answer within {seconds:g} s")
        pairs = zip(found.outputs, found.raw_output_contents, strict=True)
        outputs = tuple(Raw(out.name, out.datatype, tuple(out.shape), bytes(data)) for out, data in pairs)
        return Answer(int(found.model_version), outputs)

    def _call(
        self, method: Callable[..., Any], request: Any, seconds: float = ANSWER_SECONDS, late: str | None = None
    ) -> Any:
        """`late`: what it means that there is no answer in time; else that the server is away."""
        try:
            answer = method(request, metadata=self._metadata, timeout=seconds)
        except self._errors as error:
            raise self._mapped(error, seconds, late) from None
        self._spoke = True
        return answer

    def _mapped(self, error: Any, seconds: float, late: str | None) -> RolloutError:
        code, details = error.code(), str(error.details())
        if code == self._codes.DEADLINE_EXCEEDED:
            return RolloutError(late) if late else away(self.access, f"it said nothing for {seconds:g} s")
        told = refusal(self.access, details)
        if type(told) is not RolloutError:
            return told
        if details.startswith(CUT_SHORT):
            gone = self._spoke or "closed" in details
            return away(self.access, details) if gone else odd(self.access, details)
        if code == self._codes.UNIMPLEMENTED or any(words in details for words in FOREIGN):
            return odd(self.access, details)
        is_away = code in (self._codes.UNAVAILABLE, self._codes.CANCELLED)
        return away(self.access, details) if is_away else told


def _text(version: int | None) -> str:
    return "" if version is None else str(version)


def _credentials(access: Access) -> Any:
    import grpc

    parts = (access.ca, access.key, access.cert)
    try:
        return grpc.ssl_channel_credentials(*(file.read_bytes() if file else None for file in parts))
    except OSError as error:
        raise away(access, f"{error.filename} cannot be read ({error.strerror})") from None
