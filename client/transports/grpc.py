"""gRPC, by tritonclient.grpc for threads and tritonclient.grpc.aio for event loops."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future, InvalidStateError
from typing import Any

from client import processes
from client.endpoint import Endpoint
from client.transports import tensors
from client.transports.relay import AsyncRelay, Relay
from client.types import Ask, Inference

# A channel to a server that is away waits longer from attempt to attempt: two minutes by gRPC's default, so that a
# server that is back would be found late. An attempt that nobody refuses, as while a machine is down, lasts as long.
LONGEST_BACKOFF_MS = 3000
FIRST_BACKOFF_MS = 200
ATTEMPT_MS = 3000
# Answers of these are no messages.
PLAIN = ("is_server_ready", "is_model_ready", "register_system_shared_memory", "unregister_system_shared_memory")


def connect(endpoint: Endpoint) -> Grpc | Relay:
    return Relay(endpoint) if processes.grpc_was_used() else Grpc(endpoint)


def connect_async(endpoint: Endpoint) -> AsyncGrpc | AsyncRelay:
    return AsyncRelay(endpoint) if processes.grpc_was_used() else AsyncGrpc(endpoint)


class Grpc:
    def __init__(self, endpoint: Endpoint) -> None:
        processes.leave_forks_alone()
        import tritonclient.grpc

        self._endpoint, self._triton = endpoint, tritonclient.grpc
        self._stub = tritonclient.grpc.InferenceServerClient(endpoint.address, **_connection(endpoint))

    def start(self, call: Ask | Inference, seconds: float) -> Future[Any]:
        return self._infer(call, seconds) if isinstance(call, Inference) else self._ask(call, seconds)

    def _infer(self, inference: Inference, seconds: float) -> Future[Any]:
        answer: Future[Any] = Future()

        def finish(result: Any, error: Any) -> None:
            with contextlib.suppress(InvalidStateError):  # the caller cancelled and has gone
                if error is None:
                    answer.set_result(tensors.arrays(inference, result))
                else:
                    answer.set_exception(_mapped(self._endpoint, error, seconds))

        try:
            context = self._stub.async_infer(
                **tensors.arguments(self._triton, inference),
                callback=finish,
                client_timeout=seconds,
                headers=self._endpoint.headers,
            )
        except ValueError as error:  # grpc's word for a channel that was closed
            answer.set_exception(self._endpoint.error("CANCELLED", str(error)))
            return answer
        answer.add_done_callback(lambda future: context.cancel() if future.cancelled() else None)
        return answer

    def _ask(self, ask: Ask, seconds: float) -> Future[Any]:
        from tritonclient.utils import InferenceServerException

        answer: Future[Any] = Future()

        def work() -> None:
            with contextlib.suppress(InvalidStateError):  # the caller cancelled and has gone
                try:
                    answer.set_result(getattr(self._stub, ask.method)(**_keywords(self._endpoint, ask, seconds)))
                except InferenceServerException as error:
                    answer.set_exception(_mapped(self._endpoint, error, seconds))
                except ValueError as error:
                    answer.set_exception(self._endpoint.error("CANCELLED", str(error)))
                except Exception as error:
                    answer.set_exception(error)

        # tritonclient has no other way to give up an answer that does not come.
        threading.Thread(target=work, daemon=True).start()
        return answer

    def close(self) -> None:
        self._stub.close()


class AsyncGrpc:
    def __init__(self, endpoint: Endpoint) -> None:
        processes.leave_forks_alone()
        import tritonclient.grpc.aio

        self._endpoint, self._triton = endpoint, tritonclient.grpc
        self._stub = tritonclient.grpc.aio.InferenceServerClient(endpoint.address, **_connection(endpoint))

    async def send(self, call: Ask | Inference, seconds: float) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            if isinstance(call, Ask):
                return await getattr(self._stub, call.method)(**_keywords(self._endpoint, call, seconds))
            keywords = tensors.arguments(self._triton, call)
            result = await self._stub.infer(**keywords, client_timeout=seconds, headers=self._endpoint.headers)
            return tensors.arrays(call, result)
        except InferenceServerException as error:
            raise _mapped(self._endpoint, error, seconds) from None

    async def close(self) -> None:
        await self._stub.close()


def _keywords(endpoint: Endpoint, ask: Ask, seconds: float) -> dict[str, Any]:
    form = {} if ask.method in PLAIN else {"as_json": True}
    return {**ask.arguments, **form, "client_timeout": seconds, "headers": endpoint.headers}


def _mapped(endpoint: Endpoint, error: Any, seconds: float) -> Exception:
    status = str(error.status())
    return endpoint.late(seconds) if status.endswith("DEADLINE_EXCEEDED") else endpoint.error(status, error.message())


def _connection(endpoint: Endpoint) -> dict[str, Any]:
    tls = endpoint.tls
    certificates = {"root_certificates": tls.ca, "private_key": tls.key, "certificate_chain": tls.certificate}
    return {"ssl": endpoint.secure, **certificates, "channel_args": channel_options(endpoint)}


def channel_options(endpoint: Endpoint) -> list[tuple[str, int]]:
    # -1: images are limited by the server's recipe, not by gRPC's default of 4 MB.
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    options += [
        ("grpc.initial_reconnect_backoff_ms", FIRST_BACKOFF_MS),
        ("grpc.min_reconnect_backoff_ms", ATTEMPT_MS),
        ("grpc.max_reconnect_backoff_ms", LONGEST_BACKOFF_MS),
    ]
    if endpoint.is_local:  # a proxy that the environment names is for the world outside
        options.append(("grpc.enable_http_proxy", 0))
    return options
