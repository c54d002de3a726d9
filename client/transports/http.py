"""HTTP, by tritonclient.http.aio. Threads use it through an event loop in a thread of its own.

tritonclient's own client for threads is bound to gevent, and cannot be shared between threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

from client.endpoint import Endpoint
from client.errors import Cancelled
from client.transports import tensors
from client.types import Ask, Inference

# Beyond it, requests wait for a connection. The callers' own bounds are lower.
CONNECTIONS = 1024


def connect(endpoint: Endpoint) -> Http:
    return Http(endpoint)


def connect_async(endpoint: Endpoint) -> AsyncHttp:
    return AsyncHttp(endpoint)


class AsyncHttp:
    def __init__(self, endpoint: Endpoint) -> None:
        import tritonclient.http.aio

        self._endpoint, self._triton = endpoint, tritonclient.http
        self._stub = tritonclient.http.aio.InferenceServerClient(
            endpoint.address,
            conn_limit=CONNECTIONS,
            conn_timeout=None,  # each call has its own
            ssl=endpoint.secure,
            ssl_context=_ssl_context(endpoint) if endpoint.secure else True,
        )

    async def send(self, call: Ask | Inference, seconds: float) -> Any:
        import aiohttp
        from tritonclient.utils import InferenceServerException

        try:
            async with asyncio.timeout(seconds):
                return await self._sent(call)
        except TimeoutError:
            raise self._endpoint.late(seconds) from None
        except InferenceServerException as error:
            raise self._endpoint.error(error.status(), error.message()) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._endpoint.error("503", f"failed to connect: {error}") from None

    async def _sent(self, call: Ask | Inference) -> Any:
        headers = dict(self._endpoint.headers)  # tritonclient adds to what it is given
        if isinstance(call, Ask):
            return await getattr(self._stub, call.method)(**call.arguments, headers=headers)
        result = await self._stub.infer(**tensors.arguments(self._triton, call), headers=headers)
        return tensors.arrays(call, result)

    async def close(self) -> None:
        await self._stub.close()


class Http:
    def __init__(self, endpoint: Endpoint) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="repo-client-http")
        self._thread.start()
        self._lock = threading.Lock()
        self._closed = False
        self._transport = self._run(_made(endpoint)).result()

    def start(self, call: Ask | Inference, seconds: float) -> Future[Any]:
        with self._lock:
            if not self._closed:
                return self._run(self._transport.send(call, seconds))
        answer: Future[Any] = Future()
        answer.set_exception(Cancelled("the client was closed"))
        return answer

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._run(self._end()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._transport.close()


async def _made(endpoint: Endpoint) -> AsyncHttp:
    return AsyncHttp(endpoint)


def _ssl_context(endpoint: Endpoint) -> Any:
    import ssl

    tls = endpoint.tls
    context = ssl.create_default_context(cafile=tls.ca)
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key)
    return context
