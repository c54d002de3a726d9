"""The truth: what a throwaway server says of each model.

It is the embedded server, on loopback, with a key that nobody else has. Its guard ends it with this process, and
takes what it leaves away. Loading runs the models' code, as serving them does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.check.throwaway import DIED, HUNG, Gone, Throwaway
from builder.launchers.runtime import Bare, bare

LOAD_S = 600.0
SHELL = re.compile(r"[^\w@%+=:,./-]")
"""The server hands paths to a shell, unquoted."""
POLL_FAILED = re.compile(r"Poll failed for model directory '(?P<model>[^']*)': (?P<reason>.*?)\"?$", re.MULTILINE)
NO_BACKEND = re.compile(
    r"unable to find (?:backend library for backend '(?P<named>[^']+)'|'libtriton_(?P<library>[^']+?)\.so' or)"
)
STACK = re.compile(r"(\\n|\n){2}At:")
"""The Python stack that a stub adds."""


@dataclass(frozen=True)
class Verdict:
    model: str
    reason: str
    """In the server's words; empty: it loads."""

    @property
    def lacks(self) -> str:
        """The backend that this server is without, so that the model, or a step of it, was not tried."""
        found = NO_BACKEND.search(self.reason)
        return (found["named"] or found["library"]) if found else ""

    @property
    def is_loaded(self) -> bool:
        return not self.reason

    @property
    def is_crash(self) -> bool:
        """Whether the server did not live to say why."""
        return self.reason.startswith((DIED, HUNG))


def judged(
    repository: Path | Sequence[Path],
    models: Sequence[str],
    backends: Path | None = None,
    strict: bool = False,
    arguments: Sequence[str] = (),
    seconds: float = LOAD_S,
) -> Iterator[Verdict]:
    """Each model loaded alone, with what it asks, and unloaded again.

    `backends` is a folder of backends instead of the embedded server's own, `arguments` are tritonserver's. A server
    that ends, or that takes longer than `seconds` over one model, is started again for the next one. Raises
    LaunchError where no server can run.
    """
    left = list(models)
    while left:
        with judge(repository, backends, strict, arguments, seconds) as one:
            while left:
                verdict = one.verdict(left.pop(0))
                yield verdict
                if verdict.is_crash:
                    break


@contextmanager
def judge(
    repository: Path | Sequence[Path],
    backends: Path | None = None,
    strict: bool = False,
    arguments: Sequence[str] = (),
    seconds: float = LOAD_S,
) -> Iterator[Judge]:
    """One server; after a verdict that `is_crash` it is of no more use. Raises LaunchError where none can run."""
    with bare() as runtime:
        given = [repository] if isinstance(repository, Path) else repository
        seen = {_seen(path.absolute(), runtime, number): path for number, path in enumerate(given)}
        options = [
            *(f"--model-repository={path}" for path in seen),
            f"--backend-directory={backends or runtime.backends}",
            *(["--disable-auto-complete-config"] if strict else []),
            *arguments,
        ]
        with Throwaway(runtime, options) as server:
            yield Judge(server, seen, seconds)


def _seen(repository: Path, runtime: Bare, number: int) -> Path:
    """The path by which the server reads it: its own, if that is nothing to a shell."""
    if not SHELL.search(str(repository)):
        return repository
    link = runtime.folder / f"models-{number}"
    link.symlink_to(repository)
    return link


class Judge:
    def __init__(self, server: Throwaway, repositories: dict[Path, Path], seconds: float) -> None:
        self._server, self._repositories, self._seconds = server, repositories, seconds

    def verdict(self, model: str) -> Verdict:
        self._server.forget()
        try:
            reason = self._server.load(model, self._seconds)
            if reason:
                # The answer of what cannot even be read does not say why; the log does.
                told = POLL_FAILED.finditer(self._server.said())
                reason = "\n".join([reason, *(match["reason"] for match in told if match["model"] == model)])
            self._server.unload(model)
        except Gone as gone:
            reason = str(gone)
        return Verdict(model, self._shown(reason))

    def _shown(self, reason: str) -> str:
        """With the paths as the user knows them, and without a stack of Python."""
        for seen, path in self._repositories.items():
            reason = reason.replace(str(seen), str(path))
        return STACK.split(reason)[0].strip()
