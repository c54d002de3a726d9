"""Both clients by one interface."""

import asyncio
from collections.abc import Callable
from typing import Any

from client import AsyncClient, Client


class Waiting:
    """AsyncClient as if it were Client: each call is waited for."""

    def __init__(self, url: str, **settings: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url, **settings)

    def __enter__(self) -> "Waiting":
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *values, **named: self._runner.run(_awaited(getattr(self._client, name)(*values, **named)))


async def _awaited(answer: Any) -> Any:
    return [item async for item in answer] if hasattr(answer, "__aiter__") else await answer


Connect = Callable[..., Any]
BOTH: dict[str, Connect] = {"threads": Client, "loop": Waiting}
