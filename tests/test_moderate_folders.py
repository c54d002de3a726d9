"""repo-client moderate: whoever uploads renames folders, and puts links in their place, while files are judged."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_triton import FakeTriton
from waiting import until

from client import Client
from client.errors import UnwritableFile
from client.moderation import moving
from client.moderation.journal import Journal, Move
from client.moderation.run import Moderator, Orders
from client.moderation.walking import Left, Wanted, walk
from client.moderation.watch import Found, is_complete, look


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "books")
    yield journal
    journal.close()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """With one upload."""
    folder = tmp_path / "uploads" / "album"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"dog")
    return folder


def seen(path: Path) -> Found:
    found = look(path)
    assert found is not None
    return found


def once_on_its_way(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """`then` is called when the file has its own name in its folder, and its name in the target is chosen."""
    begin, begun = Journal.begin, []

    def noted(journal: Journal, plan: Move) -> None:
        begin(journal, plan)
        begun.append(plan)
        if len(begun) == 2:
            then()

    monkeypatch.setattr(Journal, "begin", noted)


def test_folder_that_is_renamed_while_a_file_of_it_is_moved(
    album: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = album.parent.parent / "q" / "a.jpg"
    once_on_its_way(monkeypatch, lambda: album.rename(album.with_name("other")))
    told: list[Move] = []
    assert moving.move(journal, seen(album / "a.jpg"), target, "{}", told.append)
    assert len(told) == 1
    assert target.read_bytes() == b"dog"
    assert list(album.with_name("other").iterdir()) == []
    assert journal.unfinished() == []


def test_file_that_can_go_neither_on_nor_back_is_gone_on_with(
    album: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, link = album.parent.parent / "q" / "a.jpg", os.link

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(UnwritableFile, match=r"a\.jpg is left as \.moderate-.*: No space left"):
        moving.move(journal, seen(album / "a.jpg"), target, "{}", lambda _: None)
    monkeypatch.setattr(os, "link", link)
    told: list[Move] = []
    moving.recover(journal, told.append)
    assert len(told) == 1
    assert target.read_bytes() == b"dog"
    assert list(album.iterdir()) == []


def test_one_look_does_not_end_well_while_a_file_is_on_its_way(
    fake: tuple[FakeTriton, str], album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one moves it."""
    quarantine, link, failed = album.parent.parent / "q", os.link, []

    def full(*given: Any, **options: Any) -> None:
        failed.append(given)
        if len(failed) <= 2:
            raise OSError(28, "No space left on device")
        link(*given, **options)

    monkeypatch.setattr(os, "link", full)
    fake[0].probabilities = lambda _: (0.9, 0.1)
    orders = Orders(album.parent, quarantine, ("cat",), settle=0.01, once=True, interval=0.01)
    with Client(fake[1]) as client:
        moderator = Moderator(client, orders, lambda _: None, lambda _: None)
        until(lambda: is_complete(seen(album / "a.jpg"), 0.01))
        with pytest.raises(UnwritableFile, match="is left as"):
            moderator.run()
        assert not (quarantine / "album" / "a.jpg").exists()
        moderator.run()
    assert (quarantine / "album" / "a.jpg").read_bytes() == b"dog"
    assert list(album.iterdir()) == []


def test_what_a_move_left_in_a_folder_that_was_renamed_meanwhile_is_an_upload(album: Path, journal: Journal) -> None:
    plan = Move("0123456789abcdef", album / "a.jpg", album.parent.parent / "q" / "a.jpg", json.dumps({"sha256": "0"}))
    journal.begin(plan)
    plan.source.rename(plan.taken)
    album.rename(album.with_name("other"))
    moving.recover(journal, lambda _: None)
    (left,) = walk(Wanted(album.parent))
    assert isinstance(left, Found)
    assert left.path == album.with_name("other") / plan.taken.name


def test_link_in_the_place_of_a_folder_leads_nowhere(album: Path, tmp_path: Path) -> None:
    """Neither the last one of a path nor one above it, however late it comes."""
    (album / "inner").mkdir()
    (tmp_path / "private" / "inner").mkdir(parents=True)
    (tmp_path / "private" / "inner" / "secret.jpg").write_bytes(b"secret")
    looking = walk(Wanted(album.parent))
    assert next(looking).path == album / "a.jpg"  # `inner` is listed, and not yet entered
    album.rename(album.with_name("other"))
    album.symlink_to(tmp_path / "private")
    assert list(looking) == []
    (told,) = [item for item in walk(Wanted(album.parent)) if isinstance(item, Left)]
    assert told.reason == "it is a link that leads out of the folder"


def test_link_in_the_place_of_a_folder_moves_nothing_of_others(album: Path, journal: Journal, tmp_path: Path) -> None:
    found = seen(album / "a.jpg")
    secret = tmp_path / "private" / "a.jpg"
    secret.parent.mkdir()
    secret.write_bytes(b"cat")
    os.utime(secret, ns=(found.mtime_ns, found.mtime_ns))
    before = secret.stat().st_ctime_ns
    album.rename(album.with_name("other"))
    album.symlink_to(secret.parent)
    assert not moving.move(journal, found, tmp_path / "q" / "a.jpg", "{}", lambda _: None)
    assert secret.read_bytes() == b"cat"
    assert secret.stat().st_ctime_ns == before  # not even renamed, and back
