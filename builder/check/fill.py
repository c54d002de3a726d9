"""What the server fills in a config by itself, before any backend sees the model, and with auto-complete off as well.

Every function changes the ModelConfig that it is given.
"""

from __future__ import annotations

import os
from typing import Any

from builder.check.listing import Listing
from builder.check.target import FIRST_WITH_AOTI, Target

TENSORFLOW = {"model.savedmodel": "tensorflow_savedmodel", "model.graphdef": "tensorflow_graphdef"}
BEFORE_PYTORCH = (
    ("tensorrt", "tensorrt_plan", "model.plan", True),
    ("onnxruntime", "onnxruntime_onnx", "model.onnx", False),
    ("openvino", "", "model.xml", False),
)
"""Backend, platform, file, and whether that must be no folder; in the order in which the server tries them."""
LIBTORCH = ("pytorch", "pytorch_libtorch", "model.pt", True)
PYTHON = ("python", "", "model.py", False)
PYTORCH = frozenset({"pytorch_libtorch", "libtorch", "torch_aoti"})
IDLE_MICROSECONDS = 1_000_000
TWO_ON_CPU = frozenset({"tensorflow", "onnxruntime"})
"""Backends that have two instances on a CPU unless the config says how many."""


def filled(name: str, config: Any, listing: Listing, target: Target, gpus: int | None = None) -> Any:
    """A ModelConfig as the server sees it, of what is in `config.pbtxt`.

    KIND_AUTO stays where nobody knows whether there are GPUs.
    """
    message = type(config)()
    message.CopyFrom(config)
    message.name = message.name or utf8(name)
    complete_backend(message, name, listing, target)
    _normalize(message)
    complete_instances(message, gpus)
    return message


def utf8(name: str) -> str:
    """A name as it may stand in a message; bytes that are no UTF-8 are shown."""
    return os.fsencode(name).decode(errors="backslashreplace")


def complete_backend(message: Any, name: str, listing: Listing, target: Target) -> None:
    """Backend, platform and default_model_filename, by one another and by the files in the first version's folder."""
    if _is_tensorflow(message, listing):
        return
    if any(_known(message, *known, listing) for known in BEFORE_PYTORCH) or _is_pytorch(message, listing, target):
        return
    if _known(message, *PYTHON, listing):
        return
    if not _is_unsaid(message):
        return
    _, dot, backend = name.partition(".")
    if dot:
        message.backend = utf8(backend)
        message.default_model_filename = f"model.{message.backend}"


def _is_unsaid(message: Any) -> bool:
    return not (message.backend or message.platform or message.default_model_filename)


def _is_tensorflow(message: Any, listing: Listing) -> bool:
    if not message.platform and message.backend in ("", "tensorflow"):
        _guess_tensorflow(message, listing)
    files = {platform: file for file, platform in TENSORFLOW.items()}
    if message.platform not in files:
        return False
    message.backend = message.backend or "tensorflow"
    message.default_model_filename = message.default_model_filename or files[message.platform]
    return True


def _guess_tensorflow(message: Any, listing: Listing) -> None:
    if message.default_model_filename in TENSORFLOW:
        message.platform = TENSORFLOW[message.default_model_filename]
    elif not message.default_model_filename:
        if listing.first.get("model.savedmodel"):
            message.platform = TENSORFLOW["model.savedmodel"]
        if listing.first.get("model.graphdef") is False:
            message.platform = TENSORFLOW["model.graphdef"]


def _known(message: Any, backend: str, platform: str, file: str, is_file: bool, listing: Listing) -> bool:
    """Of a backend with one platform and one file, which may be a folder unless `is_file`; whether it is this one."""
    if not message.backend:
        is_there = listing.first.get(file) is False if is_file else file in listing.first
        is_said = platform and message.platform == platform
        if is_said or message.default_model_filename == file or (_is_unsaid(message) and is_there):
            message.backend = backend
    if message.backend != backend:
        return False
    message.platform = message.platform or platform
    message.default_model_filename = message.default_model_filename or file
    return True


def _is_pytorch(message: Any, listing: Listing, target: Target) -> bool:
    if target.is_before(FIRST_WITH_AOTI):
        return _known(message, *LIBTORCH, listing)
    if not message.backend:
        _guess_pytorch(message, listing)
    if message.backend != "pytorch":
        return False
    if not message.platform:
        message.platform = "pytorch_libtorch"
        message.default_model_filename = message.default_model_filename or "model.pt"
    elif message.platform == "torch_aoti":
        message.default_model_filename = message.default_model_filename or "model.pt2"
    return True


def _guess_pytorch(message: Any, listing: Listing) -> None:
    if message.platform in PYTORCH or message.default_model_filename in ("model.pt", "model.pt2"):
        message.backend = "pytorch"
    elif _is_unsaid(message):
        for file, platform in (("model.pt", "pytorch_libtorch"), ("model.pt2", "torch_aoti")):
            if file in listing.first:
                if listing.first[file] is False:
                    message.backend, message.platform = "pytorch", platform
                return


def _normalize(message: Any) -> None:
    if not message.HasField("version_policy"):
        message.version_policy.latest.num_versions = 1
    if message.HasField("dynamic_batching"):
        _prefer(message.dynamic_batching, message.max_batch_size)
    if message.HasField("sequence_batching"):
        sequences = message.sequence_batching
        if not sequences.max_sequence_idle_microseconds:
            sequences.max_sequence_idle_microseconds = IDLE_MICROSECONDS
        if sequences.HasField("oldest"):
            _prefer(sequences.oldest, message.max_batch_size)
    if not message.HasField("ensemble_scheduling"):
        _pin_memory(message.optimization)


def _prefer(batcher: Any, max_batch_size: int) -> None:
    if not batcher.preferred_batch_size and max_batch_size > 0:
        batcher.preferred_batch_size.append(max_batch_size)


def _pin_memory(optimization: Any) -> None:
    for memory in ("input_pinned_memory", "output_pinned_memory"):
        if not optimization.HasField(memory):
            getattr(optimization, memory).enable = True


def complete_instances(message: Any, gpus: int | None) -> None:
    """Names, kinds and counts; again after a backend has said what it prefers."""
    if message.HasField("ensemble_scheduling"):
        return
    if not message.instance_group:
        message.instance_group.add().name = message.name
    for place, group in enumerate(message.instance_group):
        group.name = group.name or f"{message.name}_{place}"
        if group.kind == group.KIND_AUTO and gpus is not None:
            group.kind = group.KIND_GPU if gpus and all(0 <= gpu < gpus for gpu in group.gpus) else group.KIND_CPU
        if group.count < 1:
            on_two = group.kind == group.KIND_CPU and message.backend in TWO_ON_CPU
            group.count = 2 if on_two else 1
        if group.kind == group.KIND_GPU and not group.gpus and gpus:
            group.gpus.extend(range(gpus))
