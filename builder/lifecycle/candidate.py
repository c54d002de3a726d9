"""What is published of a model, with its configs as one server is to load them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import BuilderError
from builder.lifecycle.state import PARTS, Seen, calls, facts, is_alike, role_of
from builder.repository import golden, layout
from builder.repository.served import Part, Served, is_of_one_build
from builder.triton import model_config
from builder.triton.adapting import adapt, lower

UNSERVED = frozenset({golden.FILENAME, layout.CONFIG})
"""Files of a version that no server reads."""

OF_ONE_VERSION = frozenset({"weights", "weights_sha256", "network", "trained", "opset", "evaluation_images"})
"""Parameters that runtimes do not read, beside those of one build."""


@dataclass(frozen=True)
class Candidate:
    served: Served
    seen: Seen

    @property
    def name(self) -> str:
        return self.served.name

    @property
    def version(self) -> int:
        return self.served.version

    @property
    def network(self) -> Part:
        return self.served.network

    @property
    def is_alone(self) -> bool:
        return self.served.ensemble is None

    @property
    def before(self) -> int | None:
        """The version that the server has."""
        return self.seen.served(self.name)

    @property
    def is_served(self) -> bool:
        """Whether that is what is published, not only by its number."""
        loaded = self.seen.configs.get(self.name)
        if loaded is None or self.before != self.version:
            return False
        return is_alike(loaded, self.served.asked.config)

    def has(self, part: Part) -> bool:
        """Whether the server has loaded a step, or a network's version, already."""
        if part.version not in self.seen.versions(part.name):
            return False
        return part.role in layout.STEP_ROLES or self._copy(part.name) is not None

    @property
    def is_in_place(self) -> bool:
        """Whether the server has another version of the very same number, of a repository that was made anew."""
        return any(
            part.version in self.seen.versions(part.name) and not self.has(part)
            for part in self.served.parts
            if part.role in (layout.NETWORK, layout.MODEL)
        )

    def config(self, part: Part, versions: Iterable[int] = ()) -> Any:
        """To load a part with; of it the versions, or its own alone."""
        config = copied(part.config)
        adapt(config, self.seen.triton)
        ensemble = self.served.ensemble
        if ensemble and part is not ensemble and self._is_scarce():
            lower(config, ensemble.config.max_batch_size or config.max_batch_size)
        config.version_policy.specific.versions[:] = sorted({*versions, part.version})
        return config

    def beside(self) -> Any:
        """To load the network with, together with its versions that are loaded.

        As those were loaded, where that makes no difference to the new one: then they are not loaded anew.
        """
        loaded, versions = self.seen.configs.get(self.network.name), self.seen.versions(self.network.name)
        own = self.config(self.network, versions)
        if loaded is None:
            return own
        old = self.as_loaded(self.network.name)
        old.version_policy.specific.versions[:] = own.version_policy.specific.versions
        if _is_alike(old, own):
            return old
        own.max_batch_size = max(own.max_batch_size, loaded.max_batch_size)
        return own

    def as_loaded(self, name: str) -> Any:
        """A config with which the server has a model now: as it was sent, where the repository tells, since the server
        adds to what it was sent, and would take its own for another one. `name` is loaded.
        """
        loaded, copy = self.seen.configs[name], self._copy(name)
        config = copied(loaded) if copy is None else copy
        if copy is not None:
            adapt(config, self.seen.triton)
            if loaded.max_batch_size < config.max_batch_size:
                lower(config, loaded.max_batch_size)
            config.max_batch_size = loaded.max_batch_size
        # Of those that were there already when others came the server tells the config of before.
        config.version_policy.specific.versions[:] = sorted(self.seen.versions(name))
        return config

    def _copy(self, name: str) -> Any:
        """The config of the version whose facts the server tells; None if the repository has it no more."""
        told = facts(self.seen.configs[name])
        for version in sorted(self.seen.versions(name), reverse=True):
            found = _read(self.served.repository / name / str(version) / layout.CONFIG)
            if found is not None and facts(found) == told:
                return found
        return None

    def goldens(self) -> golden.GoldenSet | None:
        """Raises RepositoryError."""
        return golden.read(self.served.asked.folder)

    def files(self) -> dict[str, Path]:
        """Of what clients ask, by their path in the model's folder: what a server needs to load it from a call."""
        folder = self.served.asked.folder
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in UNSERVED]
        return {path.relative_to(folder.parent).as_posix(): path for path in paths}

    def family(self) -> set[str]:
        """Names of what its versions consist of, and of what the server has of it."""
        folder = self.served.asked.model
        configs = [*map(_read, folder.glob(f"*/{layout.CONFIG}")), self.served.asked.config]
        configs.append(self.seen.configs.get(self.name))
        named = {name for config in configs if config for name, _ in calls(config)}
        of_its_name = {name for name in self.seen.configs if name.startswith(f"{self.name}_")}
        return {name for name in named | of_its_name if self.seen.role(name) in PARTS}

    def _is_scarce(self) -> bool:
        """Whether the server's launcher lowered batches, since there is little shared memory."""
        return any(self._is_lowered(name, config) for name, config in self.seen.configs.items())

    def _is_lowered(self, name: str, config: Any) -> bool:
        if role_of(config) not in PARTS:
            return False
        version = str(self.seen.served(name)) if role_of(config) == layout.NETWORK else ""
        published = _read(self.served.repository / name / version / layout.CONFIG)
        return published is not None and config.max_batch_size < published.max_batch_size


def _is_alike(config: Any, other: Any) -> bool:
    """Whether a network runs alike with both."""
    return bool(_running(config) == _running(other))


def _running(config: Any) -> Any:
    """What is left of a config without what no runtime reads."""
    running = copied(config)
    for key in [key for key in running.parameters if key in OF_ONE_VERSION or is_of_one_build(key)]:
        del running.parameters[key]
    for output in running.output:
        output.label_filename = ""
    return running


def copied(config: Any) -> Any:
    other = type(config)()
    other.CopyFrom(config)
    return other


def _read(path: Path) -> Any:
    """None for what is not there, or is no config."""
    try:
        return model_config.read(path)
    except (OSError, BuilderError):
        return None
