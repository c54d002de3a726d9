"""The story of moderation: look, judge, move, record; wait for a server that is away."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client import signals
from client.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidInput,
    NotAllowed,
    ServerUnavailable,
    UnwritableFile,
)
from client.moderation import hooks, moving
from client.moderation.journal import Journal, Move
from client.moderation.judging import Judge, Outage, Verdict
from client.moderation.places import place, spare
from client.moderation.walking import Left, Wanted, walk
from client.moderation.watch import Found, Patience

if TYPE_CHECKING:
    from client.client import Client

FIRST_WAIT, LONGEST_WAIT = 0.5, 5.0
HOOK_SECONDS = 30.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Orders:
    root: Path
    quarantine: Path
    forbidden: tuple[str, ...]
    threshold: float = 0.5
    model: str | None = None
    release: Path | None = None
    """Where clean files are moved; they stay where they are without it."""
    fail_open: bool = False
    """Whether files that cannot be judged are treated as clean ones are."""
    every_file: bool = False
    ignored: tuple[str, ...] = ()
    """Patterns of names that are no uploads."""
    settle: float = 2.0
    """Seconds that a file must have been left alone."""
    abandon: float = 600.0
    """As many for one whose name looks unfinished."""
    interval: float = 1.0
    once: bool = False
    dry_run: bool = False
    hook: tuple[str, ...] = ()
    concurrency: int = 4


@dataclass
class Counts:
    clean: int = 0
    forbidden: int = 0
    unjudged: int = 0
    left: int = 0
    """What was there at the last look, and is not judged: links out of the folder, pipes, unreadable folders."""


@dataclass
class Moderator:
    """Says what it does through `tell` (records) and `warn` (troubles)."""

    client: Client
    orders: Orders
    tell: Callable[[dict[str, Any]], None]
    warn: Say
    stop: signals.Stop = field(default_factory=signals.Stop)
    counts: Counts = field(default_factory=Counts)
    _stuck: dict[Path, str] = field(default_factory=dict)
    """Files that could not be moved, and why."""
    _left: dict[Path, str] = field(default_factory=dict)
    """What this look found that cannot be judged, and why."""
    _told: dict[Path, str] = field(default_factory=dict)
    """The same, as far as it was told of."""
    _waited: float = FIRST_WAIT
    _complained: bool = False

    def run(self) -> Counts:
        """Until `stop` is set, or, with `once`, until every file is judged. Raises ClientError.

        A move that is under way when `stop` is set is finished, its record and its hook with it.
        """
        orders = self.orders
        self._judge = Judge(self.client, orders.model, orders.forbidden, orders.threshold)
        self._seen: set[Found] = set()
        self._wanted = _wanted(orders)
        self._patience = Patience(max(orders.abandon, orders.settle))
        _check_folders(orders)
        with self._journal() as self._books:
            while not self.stop.is_set():
                if not self._prepared():
                    continue
                self._finish_moves()
                waiting = self._pass()
                if orders.once and not waiting:
                    self._raise_if_stuck()
                    break
                self.stop.wait(orders.interval)
        return self.counts

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        """None in a dry run, which writes nothing."""
        if self.orders.dry_run:
            yield None
            return
        _make_private(self.orders.quarantine)
        journal = Journal(self.orders.quarantine / ".moderate.sqlite")
        try:
            moving.recover(journal, self._record_move)
            journal.forget_gone()
            yield journal
        finally:
            journal.close()

    def _finish_moves(self) -> None:
        """Of files that could neither go on nor back."""
        if self._books and self._stuck:
            with contextlib.suppress(UnwritableFile):  # which was told of
                moving.recover(self._books, self._record_move)

    def _prepared(self) -> bool:
        """Whether the server can be asked; waits for a while if not. Mistakes in the orders are raised."""
        try:
            self._judge.prepare()
        except (InvalidInput, NotAllowed):
            raise
        except (ServerUnavailable, DeadlineExceeded) as error:
            self._wait(str(error))
            return False
        except ClientError as error:
            if self.stop.is_set():
                return False  # it was cancelled
            if self._judge.model == "" and self._is_up():
                raise  # the model was never there
            self._wait(str(error))
            return False
        return True

    def _is_up(self) -> bool:
        try:
            return self.client.ready()
        except ClientError:
            return False

    def _wait(self, reason: str) -> None:
        """Nothing is judged, moved or let through meanwhile."""
        if not self._complained:
            self.warn(f"waiting for the server: {reason}")
            self._complained = True
        self.stop.wait(self._waited)
        self._waited = min(self._waited * 2, LONGEST_WAIT)

    def _pass(self) -> bool:
        """One look through the tree; whether something has to be looked at again."""
        again = False
        self._left = {}
        try:
            for verdict in self._verdicts():
                if self.stop.is_set():
                    return True
                again |= verdict.kind in ("changed", "unsettled", "suspect")
                self._act(verdict)
        except Outage as outage:
            if not self.stop.is_set():
                self._wait(str(outage))
            return True
        self._told, self.counts.left = self._left, len(self._left)
        self._patience.forget_gone()
        self._waited = FIRST_WAIT
        if self._complained:
            self.warn("the server is back")
            self._complained = False
        return again

    def _verdicts(self) -> Iterator[Verdict]:
        """Suspects, which may be what the server does not survive, come last, one by one."""
        from client.client import map_bounded

        suspects = []
        for verdict in map_bounded(self._judged, self._candidates(), self.orders.concurrency):
            if verdict.kind == "suspect":
                suspects.append(verdict.found)
            else:
                yield verdict
        for found in suspects:
            yield self._judge.judge_alone(found, self._patience.is_strained(found))

    def _candidates(self) -> Iterator[Found]:
        for found in walk(self._wanted):
            if isinstance(found, Left):
                self._leave(found)
            elif not self._known(found) and not self._is_unfinished(found):
                yield found

    def _known(self, found: Found) -> bool:
        return self._books.knows(found) if self._books else found in self._seen

    def _is_unfinished(self, found: Found) -> bool:
        """Whether it is still to be waited for. One look at all that there is cannot wait, and says so."""
        seconds = self.orders.abandon
        if not self._wanted.is_unfinished(found.path) or self._patience.is_over(found, seconds):
            return False
        if self.orders.once:
            reason = f"its name looks unfinished; it is judged once left alone for {seconds:g} s (--abandon)"
            self._leave(Left(found.path, reason))
        return True

    def _leave(self, left: Left) -> None:
        """Say once that it is not judged; the audit has it once, however often this is started."""
        self._left[left.path] = left.reason
        if self._told.get(left.path) == left.reason:
            return
        self._told[left.path] = left.reason
        record = self._record(Verdict(Found(left.path, 0, 0, 0, 0), "unjudged", reason=left.reason), None)
        if self._books is None or self._books.knows_left(left):
            self.tell(record)
        else:
            self._audit(record)
            self._books.add_left(left)

    def _judged(self, found: Found) -> Verdict:
        if self.stop.is_set():
            return Verdict(found, "changed")
        if not self._patience.is_over(found, self.orders.settle):
            return Verdict(found, "unsettled")
        return self._judge.judge(found, self._patience.is_strained(found))

    def _act(self, verdict: Verdict) -> None:
        if verdict.kind not in ("clean", "forbidden", "unjudged"):
            return
        let_through = verdict.kind == "clean" or (self.orders.fail_open and not verdict.harmful)
        leaves = verdict.kind == "forbidden" or not let_through
        folder = self.orders.quarantine if leaves else self.orders.release
        relative = verdict.found.path.relative_to(self.orders.root)
        target = place(folder, relative) if folder else None
        record = self._record(verdict, target)
        if self._books is None:
            self._seen.add(verdict.found)
            self.tell(record)
        elif folder is None or target is None:
            self._audit(record)  # first: if the process ends in between, there are two lines, rather than none
            self._books.add(verdict.found)
            self._patience.restart(verdict.found)  # or one that is touched for ever is judged at every look
        elif not self._moved(verdict.found, target, spare(folder, relative), record):
            return
        setattr(self.counts, verdict.kind, getattr(self.counts, verdict.kind) + 1)

    def _moved(self, found: Found, target: Path, otherwise: Path, record: dict[str, Any]) -> bool:
        assert self._books is not None
        try:
            moved = moving.move(self._books, found, target, json.dumps(record), self._record_move, otherwise)
        except UnwritableFile as error:
            if self._stuck.get(found.path) != str(error):
                self.warn(f"{error}; it will be tried again")
            self._stuck[found.path] = str(error)
            return False
        self._stuck.pop(found.path, None)
        return moved

    def _raise_if_stuck(self) -> None:
        on_their_way = {move.source for move in self._books.unfinished()} if self._books else set()
        for path, reason in self._stuck.items():
            if os.path.lexists(path) or path in on_their_way:
                raise UnwritableFile(reason)

    def _record_move(self, move: Move) -> None:
        self._audit(json.loads(move.record) | {"target": str(move.target)})

    def _record(self, verdict: Verdict, target: Path | None) -> dict[str, Any]:
        moves = {self.orders.quarantine: "quarantine", self.orders.release: "release"}
        action = "leave" if target is None else next(name for folder, name in moves.items() if folder in target.parents)
        return {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "path": str(verdict.found.path),
            "verdict": verdict.kind,
            "action": f"would {action}" if self.orders.dry_run else action,
            "target": str(target) if target else None,
            "score": round(verdict.score, 6),
            "class": verdict.class_id,
            "label": verdict.label,
            "reason": verdict.reason,
            "sha256": verdict.sha256,
            "size": verdict.found.size,
            "model": self._judge.model,
            "version": self._judge.version,
        }

    def _audit(self, record: dict[str, Any]) -> None:
        line = json.dumps(record) + "\n"
        path = self.orders.quarantine / "audit.jsonl"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnwritableFile(f"{path}: {error.strerror}; the record is made at the next start") from None
        self.tell(record)
        if self.orders.hook and record["verdict"] != "clean":
            trouble = hooks.run(list(self.orders.hook), line, HOOK_SECONDS)
            if trouble:
                self.warn(f"the hook failed: {trouble}")


def _wanted(orders: Orders) -> Wanted:
    """The folders that are not entered as a walk from the root meets them, however they are spelled in the orders."""
    root = _real(orders.root)
    folders = [_real(path) for path in (orders.quarantine, orders.release) if path]
    without = frozenset(orders.root / path.relative_to(root) for path in folders if path.is_relative_to(root))
    return Wanted(orders.root, without, orders.every_file, orders.ignored)


def _check_folders(orders: Orders) -> None:
    if not os.path.isdir(orders.root):
        raise InvalidInput(f"{orders.root} is no folder")
    for folder in filter(None, (orders.quarantine, orders.release)):
        if _real(orders.root).is_relative_to(_real(folder)):
            raise InvalidInput(f"{folder} holds {orders.root} itself; choose another folder to move files to")
    if orders.release and _real(orders.release) == _real(orders.quarantine):
        raise InvalidInput("what is clean and what is forbidden need two folders")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableFile(f"{folder}: {error.strerror}") from None
