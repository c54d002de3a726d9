"""That a rollout is at work on a server: a model on it which nobody asks, and which says whose rollout that is.

An ensemble around a step that is loaded anyway costs nothing; where there is none, it is a model of a few lines.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from builder.errors import RolloutBusy, RolloutError
from builder.lifecycle.state import Seen
from builder.repository import layout
from builder.triton.connection import Connection

NAME = "build-repo-rollout"
STALE_SECONDS = 900.0
"""After which another machine's rollout is taken for dead, if its loads may not take longer than that; a living one
renews its marker before each load."""
RENEW_SECONDS = 60.0
UNLOAD_SECONDS = 5.0
CODE = b"""class TritonPythonModel:
    def execute(self, requests):
        return [None for _ in requests]
"""


@dataclass(frozen=True)
class Owner:
    host: str
    pid: int
    born: str
    """When the process began, in the kernel's clock ticks: numbers of processes come again."""
    at: float
    token: str
    place: str
    """Where its number means something: hosts' names come again, in containers above all."""
    lasts: float = STALE_SECONDS
    """Seconds from `at` after which others take it for dead."""

    @property
    def is_alive(self) -> bool:
        if (self.host, self.place) == (socket.gethostname(), place()):
            return born(self.pid) == self.born
        return abs(time.time() - self.at) < self.lasts

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {time.strftime('%H:%M:%S', time.localtime(self.at))}"


def born(pid: int) -> str:
    """Nothing for a process that is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def place() -> str:
    """This boot of this machine's kernel, and this process's namespace of numbers; what cannot be told is empty."""
    found = ["", ""]
    with suppress(OSError):
        found[0] = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    with suppress(OSError):
        found[1] = str(Path("/proc/self/ns/pid").readlink())
    return " ".join(found)


class Marker:
    """Raises RolloutBusy while another's is there."""

    def __init__(self, connection: Connection, seen: Seen, load_seconds: float, guard: Callable[[], None]) -> None:
        """`guard` raises if the rollout is to end for another reason."""
        self._connection, self._seen, self._guard = connection, seen, guard
        self._lasts = STALE_SECONDS + load_seconds
        self._put_at = 0.0
        self._token = secrets.token_hex(8)
        self.found_stale = False
        """Whether a rollout that was killed left its own."""

    def is_there(self) -> bool:
        """Whether anybody's is."""
        return self._connection.is_model_ready(NAME)

    def hold(self) -> None:
        """Before what may take long: put anew if it has grown old, and nobody else took the server meanwhile."""
        self._guard()
        if time.monotonic() - self._put_at > RENEW_SECONDS:
            self.put()
        else:
            self._require()

    def put(self) -> None:
        owner = read(self._connection)
        if owner and owner.token != self._token:
            if owner.is_alive:
                raise RolloutBusy(
                    f"another rollout is at work on {self._connection.access.url}: {owner}; wait for it, or end it, "
                    "and run the same command again"
                )
            self.found_stale = True
        config, files = config_of(self._seen, self._own())
        self._put_at = time.monotonic()
        try:
            self._connection.load_model(NAME, config, files)
        except RolloutError as error:
            if type(error) is not RolloutError:
                raise
            return  # the server has no backend for it: this machine's lock has to do
        self._require()

    def _own(self) -> Owner:
        pid = os.getpid()
        return Owner(socket.gethostname(), pid, born(pid), time.time(), self._token, place(), self._lasts)

    def _require(self) -> None:
        owner = read(self._connection)
        if owner and owner.token != self._token:
            raise RolloutBusy(f"another rollout began on {self._connection.access.url} at the same moment: {owner}")

    def remove(self) -> None:
        try:
            owner = read(self._connection)
            if owner and owner.token == self._token:
                self._connection.unload_model(NAME, UNLOAD_SECONDS)
        except RolloutError:
            pass  # the server is away, and the marker with it; or it is found stale


def read(connection: Connection) -> Owner | None:
    """Whose rollout is, or was, at work."""
    if not connection.is_model_ready(NAME):
        return None
    said = {key: value.string_value for key, value in connection.model_config(NAME).parameters.items()}
    try:
        times = float(said["at"]), float(said["lasts"])
        return Owner(said["host"], int(said["pid"]), said["born"], times[0], said["token"], said["place"], times[1])
    except (KeyError, ValueError):
        return Owner("?", 0, "", 0.0, "", "")


def config_of(seen: Seen, owner: Owner) -> tuple[Any, dict[str, bytes]]:
    """Of the marker's model, with its files."""
    step = next((config for name, config in sorted(seen.configs.items()) if seen.role(name) in layout.STEP_ROLES), None)
    marker, files = _alone() if step is None else _around(step)
    for key, value in asdict(owner).items():
        marker.parameters[key].string_value = str(value)
    return marker, files


def _around(step: Any) -> tuple[Any, dict[str, bytes]]:
    """An ensemble of one of our steps, whose files never change: Triton looks at them when it loads the ensemble."""
    marker = type(step)(name=NAME, platform="ensemble", max_batch_size=step.max_batch_size)
    call = marker.ensemble_scheduling.step.add(model_name=step.name, model_version=-1)
    for tensor in step.input:
        marker.input.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        call.input_map[tensor.name] = tensor.name
    for tensor in step.output:
        marker.output.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        call.output_map[tensor.name] = tensor.name
    return marker, {"1/nothing": b"-"}


def _alone() -> tuple[Any, dict[str, bytes]]:
    """A model of a few lines."""
    from tritonclient.grpc import model_config_pb2 as messages

    marker = messages.ModelConfig(name=NAME, backend="python")
    for tensors, name in ((marker.input, "IN"), (marker.output, "OUT")):
        tensors.add(name=name, data_type=messages.TYPE_BOOL, dims=[1])
    marker.instance_group.add(kind=messages.ModelInstanceGroup.KIND_CPU, count=1)
    return marker, {"1/model.py": CODE}
