"""What both clients do, without saying how: each flow yields steps, and is sent their answers.

`Client` takes the steps by waiting, `AsyncClient` by awaiting, so that the two cannot differ.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from client import metadata, tasks
from client.endpoint import Endpoint
from client.errors import (
    Cancelled,
    ClientError,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    NoMemory,
    NotAllowed,
    ServerError,
    ServerUnavailable,
    TooLarge,
)
from client.shared_memory import NoRoom, Region, Regions, pays
from client.tasks import TASKS
from client.tasks.exchange import Exchange
from client.types import Answer, AnyImage, Ask, Inference, Item, ModelInfo, ModelStatistics, Outcome

Result = TypeVar("Result")
REQUEST_BYTES = 4 * 1024 * 1024
"""Encoded images beyond it are not put into one request, so that large ones are not held in numbers."""
LOST_REGION = "shared memory region"
TOLD_SECONDS = 5.0
"""Within them, a model is not asked anew for the largest image that it takes."""


@dataclass(frozen=True)
class Send:
    """Answered with what the transport answers, or by raising its ClientError."""

    call: Ask | Inference
    seconds: float


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Read:
    """Answered with the image's or text's bytes, or by raising UnreadableFile, InvalidInput for what is no text, or
    TooLarge before they are read.
    """

    item: Item
    most: int | None = None
    """Bytes."""


Step = Send | Pause | Read
Flow = Generator[Step, Any, Result]
Make = Callable[[Sequence[Any]], Any]
"""Files or texts -> a task's request about them."""


class Flows:
    """One connection's flows. Threads may run several at once."""

    def __init__(self, endpoint: Endpoint, timeout: float, retries: int, shared_memory: bool | None) -> None:
        if timeout <= 0 or retries < 0:
            raise ValueError("timeout must be positive and retries not negative")
        self.endpoint = endpoint
        self._timeout, self._retries = timeout, retries
        # None: where it pays, which it cannot on another host.
        self._shares = False if shared_memory is None and not endpoint.is_local else shared_memory
        self.regions = Regions()
        self._models: dict[str, ModelInfo] = {}
        self._told: dict[str, float] = {}
        """When models were asked anew for the largest image that they take."""
        self._of_version: dict[tuple[str, str], ModelInfo] = {}
        """What was told of versions beside which there are others."""

    def ready(self, model: str | None) -> Flow[bool]:
        ask = Ask("is_model_ready", {"model_name": model}) if model else Ask("is_server_ready")
        try:
            return bool((yield Send(ask, self._timeout)))
        except ServerUnavailable:
            return False

    def models(self) -> Flow[list[ModelInfo]]:
        models = []
        for name in sorted((yield from self._names())):
            models.append((yield from self.model(name)))
        return models

    def _names(self) -> Flow[set[str]]:
        """Of the models that are ready."""
        try:
            index = yield from self._sent(Ask("get_model_repository_index"))
        except NotAllowed as error:
            if self.endpoint.is_administrators or not error.restricted:
                raise
            # The index is the administrator's; the counters, which name the models too, are everybody's.
            return {model.name for model in (yield from self.statistics(None))}
        found = index.get("models", []) if isinstance(index, dict) else index  # HTTP gives the bare list
        return {model["name"] for model in found if model.get("state") == "READY"}

    def model(self, name: str) -> Flow[ModelInfo]:
        meta = yield from self._sent(Ask("get_model_metadata", {"model_name": name}))
        answer = yield from self._sent(Ask("get_model_config", {"model_name": name}))
        info = metadata.model_info(meta, answer.get("config", answer))
        self._models[name] = info
        return info

    def chosen(self, task: str, name: str | None) -> Flow[ModelInfo]:
        """The named model, if it can be asked so; without a name, the only one that is for this task."""
        if name is not None:
            info = self._models.get(name) or (yield from self.model(name))
            if refusal := TASKS[task].refusal(info):
                raise ModelNotFound(refusal)
            return info
        found = [model for model in (yield from self.models()) if tasks.is_for(task, model)]
        if len(found) != 1:
            names, kind = ", ".join(model.name for model in found) or "none", TASKS[task].PLURAL
            unclear = ModelNotFound(f"name a model: the {kind} at {self.endpoint.url} are: {names}")
            raise unclear.without_address(f"name a model: the {kind} are: {names}")
        return found[0]

    def chosen_for(self, request: Any, model: str | None) -> Flow[ModelInfo]:
        """The model for requests such as this. Raises ModelNotFound, and InvalidInput where it answers none of them."""
        task = tasks.named(request)
        info = yield from self.chosen(task, model)
        TASKS[task].check(info, request)
        return info

    def statistics(self, model: str | None) -> Flow[list[ModelStatistics]]:
        answer = yield from self._sent(Ask("get_inference_statistics", {"model_name": model or ""}))
        return [metadata.model_statistics(item) for item in answer.get("model_stats", ())]

    def ask(self, request: Any, model: str | None) -> Flow[Any]:
        """A task's request, read, encoded, sent and decoded."""
        name = tasks.named(request)
        task, info = TASKS[name], (yield from self.chosen(name, model))
        contents = []
        for file in task.files(request):
            contents.append((yield from self._read(file, info)))
        exchanges = []
        for inference in task.encode(info, request, contents):
            answer = yield from self._inferred(inference)
            told = (yield from self._answering(info, answer.version)) if task.BY_VERSION else None
            exchanges.append(Exchange(inference, answer, told))
        return task.decode(info, request, exchanges)

    def _answering(self, info: ModelInfo, version: str) -> Flow[ModelInfo]:
        """What is true of the version that answered: after a rollout, its classes may be others."""
        if version and version not in info.versions:
            info = yield from self.model(info.name)
        if not version or info.versions == (version,):
            return info
        if (info.name, version) not in self._of_version:
            told = yield from self._told_of(info.name, version)
            if told is None:  # it answered, and is gone since
                return info
            self._of_version[info.name, version] = told
        return self._of_version[info.name, version]

    def _told_of(self, name: str, version: str) -> Flow[ModelInfo | None]:
        facts = {"model_name": name, "model_version": version}
        try:
            meta = yield from self._sent(Ask("get_model_metadata", facts))
            answer = yield from self._sent(Ask("get_model_config", facts))
        except ModelNotFound:
            return None
        return metadata.model_info(meta, answer.get("config", answer))

    def ask_anew(self, request: Any, model: str) -> Flow[Any]:
        """As `ask`; what is refused by what the model told before is held to what it tells now."""
        known = self._models.get(model)
        try:
            return (yield from self.ask(request, model))
        except InvalidInput as refusal:
            if known is None or (yield from self._anew(known, refusal)) == known:
                raise
        return (yield from self.ask(request, model))  # it was built anew, and takes others

    def ask_each(self, files: Sequence[AnyImage], make: Make, model: str) -> Flow[list[Outcome[AnyImage]]]:
        """Each file's own outcome, with as few requests as their bytes allow; `make` gives the request for some."""
        outcomes: list[Outcome[AnyImage]] = []
        held: list[tuple[AnyImage, bytes]] = []
        for file in files:
            try:
                held.append((file, (yield from self._read(file, self._models.get(model)))))
            except InvalidInput as error:  # the file is not read, or its like not sent
                outcomes += yield from self._outcomes(held, make, model)
                outcomes.append(Outcome(file, error=error))
                held = []
            if sum(len(data) for _, data in held) >= REQUEST_BYTES:
                outcomes += yield from self._outcomes(held, make, model)
                held = []
        return outcomes + (yield from self._outcomes(held, make, model))

    def _outcomes(
        self, held: Sequence[tuple[AnyImage, bytes]], make: Make, model: str
    ) -> Flow[list[Outcome[AnyImage]]]:
        if not held:
            return []
        try:
            answers = yield from self.ask(make([data for _, data in held]), model)
            return [Outcome(file, answer) for (file, _), answer in zip(held, answers, strict=True)]
        except ClientError as error:
            if len(held) == 1 or not isinstance(error, (InvalidInput, ServerError)):
                return [Outcome(file, error=error) for file, _ in held]
        alone = []  # one of them spoils the request for the others
        for one in held:
            alone += yield from self._outcomes([one], make, model)
        return alone

    def _read(self, item: Item, info: ModelInfo | None) -> Flow[bytes]:
        data: bytes
        try:
            data = yield Read(item, info.most_bytes(item) if info else None)
            return data
        except TooLarge as refusal:
            assert info is not None  # or there were no limit
            current = yield from self._anew(info, refusal)
            if current.most_bytes(item) == info.most_bytes(item):
                raise
        data = yield Read(item, current.most_bytes(item))  # the model was built anew, and takes others
        return data

    def _anew(self, info: ModelInfo, refusal: InvalidInput) -> Flow[ModelInfo]:
        """What the model tells now, or has told just before. Raises the refusal, where the server cannot say."""
        if time.monotonic() - self._told.get(info.name, float("-inf")) < TOLD_SECONDS:
            return self._models.get(info.name, info)
        try:
            return (yield from self.model(info.name))
        except Cancelled:
            raise
        except ClientError:
            raise refusal from None
        finally:  # not before: who comes meanwhile is not to go by what was
            self._told[info.name] = time.monotonic()

    def _inferred(self, inference: Inference) -> Flow[Answer]:
        answers: Answer
        if self._shares is False or (self._shares is None and not pays(inference.tensors)):
            answers = yield from self._sent(inference)
            return answers
        try:
            region = self.regions.take(inference.tensors)
        except NoRoom as lack:
            if self._shares:
                raise ServerError(f"no memory can be shared with {self.endpoint.url}: {lack}") from None
            self.regions.tell(lack)
            answers = yield from self._sent(inference)
            return answers
        try:
            return (yield from self._inferred_from(region, inference))
        except (InvalidInput, ModelNotFound) as error:
            if LOST_REGION not in str(error):
                raise
            region.known_to_server = False  # the server was started anew since it was told
            return (yield from self._inferred_from(region, inference))
        except _NotShared as refusal:
            self.regions.drop(region)
            if self._shares:
                raise refusal.told(self.endpoint.url) from None
            self._shares = False
            answers = yield from self._sent(inference)
            return answers
        finally:
            self.regions.give_back(region)

    def _inferred_from(self, region: Region, inference: Inference) -> Flow[Answer]:
        if not region.known_to_server:
            facts = {"name": region.name, "key": region.key, "byte_size": region.size}
            try:
                yield from self._sent(Ask("register_system_shared_memory", facts))
            except (InvalidInput, ModelNotFound, ServerError, NotAllowed) as error:
                # A server in a container, on another host behind a forwarded port, or one that forbids it.
                raise _NotShared(error) from None
            region.known_to_server = True
        placed = Inference(inference.model, region.place(inference.tensors), inference.outputs)
        answers: Answer = yield from self._sent(placed)
        return answers

    def close(self) -> Flow[None]:
        """Let the server forget the regions, as far as it can be reached."""
        for name in self.regions.known():
            try:
                yield Send(Ask("unregister_system_shared_memory", {"name": name}), min(1.0, self._timeout))
            except ClientError:
                break
        self.regions.destroy()

    def _sent(self, call: Ask | Inference) -> Flow[Any]:
        """The answer, asked for again while the server is UNAVAILABLE or crowded, within the seconds that there are."""
        deadline = time.monotonic() + self._timeout
        for attempt in range(self._retries + 1):
            left = deadline - time.monotonic()
            if left <= 0:
                raise self.endpoint.late(self._timeout)
            try:
                return (yield Send(call, left))
            except DeadlineExceeded:
                raise self.endpoint.late(self._timeout) from None
            except (ServerUnavailable, NoMemory):
                if attempt == self._retries:
                    raise
            # Full jitter: clients that were refused together do not come back together.
            yield Pause(min(random.uniform(0, 0.1 * 2**attempt), max(0.0, deadline - time.monotonic())))
        raise AssertionError("the last attempt returns or raises")


class _NotShared(Exception):
    """The server cannot, or will not, see this client's memory."""

    def __init__(self, reason: ClientError) -> None:
        super().__init__(str(reason))
        self.reason = reason

    def told(self, url: str) -> ClientError:
        if isinstance(self.reason, NotAllowed):
            return self.reason
        return ServerError(f"{url} does not share memory with this client: {self.reason}")
