"""A server's models controlled by HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from builder.errors import RolloutError, ServerAway
from builder.triton.connection import ANSWER_SECONDS, Access, Answer, Raw, Row, Tensor, as_json, away, odd, refusal
from builder.triton.control import http_headers

LARGEST_FILES = 32 << 20
"""Bytes of files in one call: servers since 25.03 take bodies of 64 MB, and Base64 makes them a third longer."""
BINARY = "Inference-Header-Content-Length"
SHOWN = 80
"""Characters of an answer that is not Triton's."""


class ByHttp:
    largest_files = LARGEST_FILES

    def __init__(self, access: Access) -> None:
        self.access = access
        self._url = f"{access.scheme}://{access.address}"
        self._headers = http_headers(access.admin_key)
        handlers: list[Any] = [urllib.request.ProxyHandler({})] if access.is_local else []
        if access.is_secure:
            handlers.append(urllib.request.HTTPSHandler(context=_context(access)))
        self._opener = urllib.request.build_opener(*handlers)

    def close(self) -> None:
        """Each call has a connection of its own."""

    def server_version(self) -> str:
        found = self._json("/v2")
        if not isinstance(found, dict) or found.get("name") != "triton":
            raise odd(self.access, f"it answers {_shown(json.dumps(found).encode())}")
        return str(found.get("version"))

    def repository_index(self) -> list[Row]:
        found = self._json("/v2/repository/index", {})
        try:
            return [
                Row(one["name"], int(one["version"]) if one.get("version") else None, *_state(one)) for one in found
            ]
        except (TypeError, KeyError, ValueError, AttributeError):
            raise odd(self.access, f"its index is {_shown(json.dumps(found).encode())}") from None

    def is_model_ready(self, name: str, version: int | None = None) -> bool:
        try:
            self._send(f"{_model(name, version)}/ready")
        except RolloutError as error:
            if type(error) is not RolloutError:
                raise
            return False
        return True

    def model_config(self, name: str, version: int | None = None) -> Any:
        from google.protobuf import json_format
        from tritonclient.grpc import model_config_pb2

        found = self._json(f"{_model(name, version)}/config")
        try:
            return json_format.ParseDict(found, model_config_pb2.ModelConfig(), ignore_unknown_fields=True)
        except (json_format.ParseError, AttributeError) as error:
            raise odd(self.access, f"the config of {name} cannot be read ({error})") from None

    def load_model(
        self, name: str, config: Any = None, files: Mapping[str, bytes] | None = None, seconds: float = ANSWER_SECONDS
    ) -> None:
        given = {} if config is None else {"config": as_json(config)}
        given |= {f"file:{path}": base64.b64encode(data).decode() for path, data in (files or {}).items()}
        late = f"it was not loaded within {seconds:g} s"
        self._json(f"{_repository(name)}/load", {"parameters": given} if given else {}, seconds, late)

    def unload_model(self, name: str, seconds: float = ANSWER_SECONDS) -> None:
        self._json(f"{_repository(name)}/unload", {}, seconds, f"it was not unloaded within {seconds:g} s")

    def infer(
        self, name: str, inputs: Sequence[Tensor], version: int | None = None, seconds: float = ANSWER_SECONDS
    ) -> Answer:
        head = json.dumps(
            {"inputs": [_told(tensor) for tensor in inputs], "parameters": {"binary_data_output": True}}
        ).encode()
        body, late = b"".join([head, *(tensor.data for tensor in inputs)]), f"it did not answer within {seconds:g} s"
        extra = {BINARY: str(len(head)), "Content-Type": "application/octet-stream"}
        data, length = self._send(f"{_model(name, version)}/infer", body, seconds, late, extra)
        try:
            return _answer(data, int(length or len(data)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise odd(self.access, f"it answers {_shown(data)}") from None

    def _json(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        seconds: float = ANSWER_SECONDS,
        late: str | None = None,
    ) -> Any:
        data, _ = self._send(path, None if body is None else json.dumps(body).encode(), seconds, late)
        try:
            return json.loads(data or b"null")
        except ValueError:
            raise odd(self.access, f"it answers {_shown(data)}") from None

    def _send(
        self,
        path: str,
        body: bytes | None = None,
        seconds: float = ANSWER_SECONDS,
        late: str | None = None,
        headers: Mapping[str, str] = {},
    ) -> tuple[bytes, str | None]:
        """The answer, and where its binary part begins. `late`: what it means that there is none in time."""
        request = urllib.request.Request(self._url + path, body, self._headers | dict(headers))
        try:
            with self._opener.open(request, timeout=seconds) as response:
                return response.read(), response.headers.get(BINARY)
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error, seconds, late) from None

    def _refused(self, error: urllib.error.HTTPError) -> RolloutError:
        try:
            body = error.read()
            reason = str(json.loads(body)["error"])
        except (OSError, http.client.HTTPException) as broken:
            return away(self.access, str(broken))
        except (ValueError, KeyError, TypeError):
            said = f"HTTP {error.code} {_shown(body)}".strip()
            if error.code in (502, 503, 504):
                return ServerAway(f"what answers at {self.access.url} is a proxy whose server is away: {said}")
            return refusal(self.access, "") if not body and error.code == 400 else odd(self.access, said)
        return refusal(self.access, reason)

    def _failed(self, error: Exception, seconds: float, late: str | None) -> RolloutError:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return RolloutError(late) if late else away(self.access, f"it said nothing for {seconds:g} s")
        if isinstance(reason, http.client.BadStatusLine) and not isinstance(reason, ConnectionError):
            return odd(self.access, repr(reason))
        return away(self.access, str(reason) or type(reason).__name__)


def _context(access: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=access.ca)
        if access.cert:
            context.load_cert_chain(access.cert, access.key)
    except (OSError, ssl.SSLError) as error:
        raise away(access, f"its certificates cannot be used ({error})") from None
    return context


def _model(name: str, version: int | None) -> str:
    path = f"/v2/models/{urllib.parse.quote(name, safe='')}"
    return path if version is None else f"{path}/versions/{version}"


def _repository(name: str) -> str:
    return f"/v2/repository/models/{urllib.parse.quote(name, safe='')}"


def _state(row: dict[str, str]) -> tuple[str, str]:
    return row.get("state", ""), row.get("reason", "")


def _told(tensor: Tensor) -> dict[str, Any]:
    size = {"binary_data_size": len(tensor.data)}
    return {"name": tensor.name, "datatype": tensor.data_type, "shape": list(tensor.shape), "parameters": size}


def _answer(data: bytes, length: int) -> Answer:
    """Raises ValueError, KeyError, TypeError for what is none."""
    told, at, outputs = json.loads(data[:length]), length, []
    for one in told["outputs"]:
        size = int(one["parameters"]["binary_data_size"])
        outputs.append(Raw(one["name"], one["datatype"], tuple(map(int, one["shape"])), data[at : at + size]))
        at += size
    return Answer(int(told["model_version"]), tuple(outputs))


def _shown(data: bytes) -> str:
    text = " ".join(data[: 4 * SHOWN].decode(errors="replace").split())
    return repr(text[:SHOWN]) if text else "nothing"
