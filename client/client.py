"""Images to predictions, over gRPC. Knows the KServe v2 protocol and nothing of how models are built."""

from __future__ import annotations

import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from client.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    ServerUnavailable,
    UnreadableFile,
    from_status,
)

if TYPE_CHECKING:
    import numpy as np

DEFAULT_URL = "localhost:8001"
STEP_PREFIX = re.compile(r"^in ensemble '[^']*', (\[request id: [^\]]*\] )?")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# What Triton adds to NOT_FOUND for a model that it has, but that is being loaded or unloaded: a
# server that starts or stops.
UNLOADED = "has no available versions"
Image = bytes | Path | str
"""Encoded image bytes, or the path of a file that holds them."""
AnyImage = TypeVar("AnyImage", bound=Image)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Prediction:
    class_id: int
    label: str
    """The model's label, or the class number where it has none."""
    probability: float


@dataclass(frozen=True)
class Classified(Generic[AnyImage]):
    """One image's outcome: predictions, or the error that it alone met."""

    image: AnyImage
    predictions: tuple[Prediction, ...] = ()
    error: ClientError | None = None


@dataclass(frozen=True)
class TensorInfo:
    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1 is any size."""


@dataclass(frozen=True)
class ModelInfo:
    name: str
    versions: tuple[str, ...]
    platform: str
    max_batch_size: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @property
    def takes_images(self) -> bool:
        """Whether it maps encoded images to one score a class."""
        return [t.datatype for t in self.inputs] == ["BYTES"] and [t.datatype for t in self.outputs] == ["FP32"]


class Client:
    """A connection to a Triton server. Threads may share one; `with` closes it.

    `timeout` is seconds for a whole call, retries included. A call is retried only when the server
    was UNAVAILABLE (not there, stopping, or its queue full), at most `retries` times.
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout: float = 30.0, retries: int = 3) -> None:
        import tritonclient.grpc as triton

        if timeout <= 0 or retries < 0:
            raise ValueError("timeout must be positive and retries not negative")
        self.url = url.removeprefix("grpc://")
        self._timeout = timeout
        self._retries = retries
        self._triton = triton
        self._stub = triton.InferenceServerClient(self.url, channel_args=_channel_options(self.url))
        self._models: dict[str, ModelInfo] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stub.close()

    def models(self) -> list[ModelInfo]:
        """All models that are ready, by name."""
        index = self._call(lambda seconds: self._stub.get_model_repository_index(client_timeout=seconds))
        ready = sorted({model.name for model in index.models if model.state == "READY"})
        return [self.model(name) for name in ready]

    def model(self, name: str) -> ModelInfo:
        """What one model takes and gives. Raises ModelNotFound."""
        meta = self._call(lambda seconds: self._stub.get_model_metadata(name, client_timeout=seconds))
        config = self._call(lambda seconds: self._stub.get_model_config(name, client_timeout=seconds)).config
        info = ModelInfo(
            name=meta.name,
            versions=tuple(meta.versions),
            platform=meta.platform or config.backend,
            max_batch_size=config.max_batch_size,
            inputs=tuple(TensorInfo(t.name, t.datatype, tuple(t.shape)) for t in meta.inputs),
            outputs=tuple(TensorInfo(t.name, t.datatype, tuple(t.shape)) for t in meta.outputs),
        )
        self._models[name] = info
        return info

    def classifier(self, name: str | None = None) -> ModelInfo:
        """The named image classifier; without a name, the only one there is. Raises ModelNotFound."""
        if name is not None:
            info = self._models.get(name) or self.model(name)
            if not info.takes_images:
                raise ModelNotFound(f"{name} does not take encoded images; `repo-client models` shows what each takes")
            return info
        # A preprocessing step also takes images and gives numbers; only ensembles give classes.
        found = [model for model in self.models() if model.takes_images and model.platform == "ensemble"]
        if len(found) != 1:
            names = ", ".join(model.name for model in found) or "none"
            raise ModelNotFound(f"name a model: the image classifiers at {self.url} are: {names}")
        return found[0]

    def classify(self, image: Image, model: str | None = None, top: int = 5) -> tuple[Prediction, ...]:
        """The `top` most probable classes of one image, the best first. Raises ClientError."""
        return self.classify_batch([image], model, top)[0]

    def classify_batch(
        self, images: Sequence[Image], model: str | None = None, top: int = 5
    ) -> list[tuple[Prediction, ...]]:
        """As `classify`, for several images in one request; one bad image fails them all."""
        if top < 1:
            raise InvalidInput("top must be at least 1")
        rows = self._infer([read_image(image) for image in images], self.classifier(model), top)
        return [tuple(_prediction(cell.decode()) for cell in row) for row in rows]

    def probabilities(self, images: Sequence[Image], model: str | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 [images, classes], unrounded, in one request. Raises ClientError."""
        rows: np.ndarray[Any, np.dtype[np.float32]]
        rows = self._infer([read_image(image) for image in images], self.classifier(model), 0)
        return rows

    def classify_many(
        self, images: Iterable[AnyImage], model: str | None = None, top: int = 5, concurrency: int = 8
    ) -> Iterator[Classified[AnyImage]]:
        """Outcomes in the order of `images`, which may be endless: few are held at a time.

        An image that is refused is an outcome with an error; so is one that the server could not
        answer. Raises ClientError only if the model cannot be found at all.
        """
        name = self.classifier(model).name

        def one(image: AnyImage) -> Classified[AnyImage]:
            try:
                return Classified(image, self.classify(image, name, top))
            except ClientError as error:
                return Classified(image, error=error)

        return map_bounded(one, images, concurrency)

    def _infer(self, images: list[bytes], model: ModelInfo, class_count: int) -> Any:
        import numpy as np

        if not images:
            raise InvalidInput("there are no images to classify")
        if len(images) > model.max_batch_size:
            raise InvalidInput(f"{model.name} takes at most {model.max_batch_size} images a request, not {len(images)}")
        tensor = self._triton.InferInput(model.inputs[0].name, [len(images), 1], "BYTES")
        tensor.set_data_from_numpy(np.array(images, dtype=np.object_).reshape(-1, 1))
        name = model.outputs[0].name
        output = self._triton.InferRequestedOutput(name, class_count=class_count)
        result = self._call(
            lambda seconds: self._stub.infer(model.name, [tensor], outputs=[output], client_timeout=seconds)
        )
        return result.as_numpy(name).reshape(len(images), -1)

    def _call(self, send: Callable[[float], Result]) -> Result:
        """`send` with the seconds that are left, again while the server is UNAVAILABLE."""
        from tritonclient.utils import InferenceServerException

        deadline = time.monotonic() + self._timeout
        for attempt in range(self._retries + 1):
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(f"{self.url} did not answer within {self._timeout:g} s")
            try:
                return send(left)
            except InferenceServerException as error:
                mapped = self._mapped(error)
                if not isinstance(mapped, ServerUnavailable) or attempt == self._retries:
                    raise mapped from None
                # Full jitter: clients that were refused together do not come back together.
                time.sleep(min(random.uniform(0, 0.1 * 2**attempt), max(0.0, deadline - time.monotonic())))
        raise AssertionError("the last attempt returns or raises")

    def _mapped(self, error: Any) -> ClientError:
        message = STEP_PREFIX.sub("", str(error.message()))
        mapped = from_status(error.status(), message)
        if isinstance(mapped, ModelNotFound) and UNLOADED in message:
            mapped = ServerUnavailable(message)
        if isinstance(mapped, ServerUnavailable):
            hint = "; is a server running there, and is this its gRPC port?" if "connect" in message else ""
            return ServerUnavailable(f"{self.url} is unavailable: {message}{hint}")
        if isinstance(mapped, DeadlineExceeded):
            return DeadlineExceeded(f"{self.url} did not answer within {self._timeout:g} s")
        if isinstance(mapped, ModelNotFound):
            return ModelNotFound(f"{message}; `repo-client models --url {self.url}` lists what is served")
        return mapped


def _channel_options(url: str) -> list[tuple[str, int]]:
    # -1: images are limited by the server's recipe, not by gRPC's default of 4 MB.
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    host = url.rsplit(":", 1)[0].strip("[]")
    if host in LOOPBACK:  # a proxy that the environment names is for the world outside
        options.append(("grpc.enable_http_proxy", 0))
    return options


def read_image(image: Image) -> bytes:
    """The encoded bytes. Raises UnreadableFile."""
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{image}: {error.strerror}") from None


def map_bounded(
    function: Callable[[AnyImage], Result], items: Iterable[AnyImage], concurrency: int
) -> Iterator[Result]:
    """Ordered results of `function` on threads, with at most 2 * `concurrency` items taken ahead."""
    if concurrency < 1:
        raise ValueError("concurrency must be at least 1")
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 2 * concurrency:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _prediction(text: str) -> Prediction:
    """From Triton's classification extension: "probability:class" or "probability:class:label"."""
    probability, class_id, *label = text.split(":", 2)
    return Prediction(int(class_id), label[0] if label and label[0] else class_id, float(probability))
