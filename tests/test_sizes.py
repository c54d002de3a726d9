"""Images beyond what a model takes."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from fake_triton import FakeTriton, serving
from typer.testing import CliRunner

from client import AsyncClient, Client, InvalidInput
from client.cli import app
from client.errors import TooLarge

LIMIT = {"max_image_bytes": "1000"}


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    """Named as an image, and of no room on the disk."""
    path = tmp_path / "photos" / "huge.png"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(1 << 40)
    return path


def test_they_are_not_read(huge: Path) -> None:
    with serving() as (servicer, url), Client(url) as client:
        servicer.parameters = LIMIT
        with pytest.raises(TooLarge, match=r"huge.png: the image has \d+ bytes; at most 1000 are accepted"):
            client.classify(huge)
        with pytest.raises(InvalidInput, match=r"^the image has 1001 bytes"):
            client.probabilities([bytes(1001)])
        outcomes = list(client.classify_many([bytes(9), huge, bytes(1000)]))
        assert [type(outcome.error) for outcome in outcomes] == [type(None), TooLarge, type(None)]
        assert servicer.calls == 2


def test_they_are_not_read_by_event_loops(huge: Path) -> None:
    async def ask(url: str) -> None:
        async with AsyncClient(url) as client:
            for image in (huge, bytes(1001)):
                with pytest.raises(TooLarge):
                    await client.classify(image)

    with serving() as (servicer, url):
        servicer.parameters = LIMIT
        asyncio.run(ask(url))
        assert servicer.calls == 0


def test_what_does_not_tell_its_size_is_not_sent(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with serving() as (servicer, url), Client(url) as client:
        servicer.parameters = LIMIT
        client.classifier()
        with pytest.raises(InvalidInput):
            client.classify(pipe)
        assert servicer.calls == 0


@pytest.mark.parametrize("told", ["2000", ""])
def test_a_model_that_was_built_anew_is_asked_for_its_limit(told: str) -> None:
    with serving() as (servicer, url), Client(url) as client:
        servicer.parameters = LIMIT
        assert client.classifier().max_image_bytes == 1000
        servicer.parameters = {"max_image_bytes": told}
        assert client.classify(bytes(2000), "pets")


def test_they_are_refused_while_the_model_is_away() -> None:
    """What is wrong with one image is no end of the others."""
    with serving() as (servicer, url), Client(url) as client:
        servicer.parameters = LIMIT
        client.classifier("pets")
        servicer.names = []
        outcomes = list(client.classify_many([bytes(9), bytes(1001), bytes(9)], "pets", batch_size=1, concurrency=1))
        assert [type(outcome.error) for outcome in outcomes] == [type(None), TooLarge, type(None)]


def test_many_of_them_ask_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    config = FakeTriton.ModelConfig

    def counted(servicer: FakeTriton, request: Any, context: Any) -> Any:
        asked.append(request.name)
        return config(servicer, request, context)

    monkeypatch.setattr(FakeTriton, "ModelConfig", counted)
    with serving() as (servicer, url), Client(url) as client:
        servicer.parameters = LIMIT
        outcomes = list(client.classify_many([bytes(1001)] * 50, "pets", concurrency=1))
    assert {type(outcome.error) for outcome in outcomes} == {TooLarge}
    assert len(asked) == 2  # at first, and at the first of them


@pytest.mark.parametrize("told", [{}, {"max_image_bytes": "many"}])
def test_models_that_do_not_tell_are_sent_everything(told: dict[str, str]) -> None:
    with serving() as (servicer, url), Client(url) as client:
        servicer.parameters = told
        assert client.classifier().max_image_bytes is None
        assert client.classify(bytes(2000))


def test_commands_go_on_with_the_others(huge: Path, tmp_path: Path) -> None:
    (huge.parent / "small.png").write_bytes(b"x")
    table = tmp_path / "out.csv"
    with serving() as (servicer, url):
        servicer.parameters = LIMIT
        batch = CliRunner().invoke(app, ["classify", str(huge.parent), "--url", url, "--csv", str(table)])
        rules = ["--forbid", "cat", "--quarantine", str(tmp_path / "quarantine")]
        moderate = ["moderate", str(huge.parent), "--url", url, "--once", "--settle", "0", *rules]
        moderated = CliRunner().invoke(app, moderate)
    assert batch.exit_code == InvalidInput.exit_code
    assert "at most 1000 are accepted" in table.read_text()
    assert "unjudged" in moderated.output
    assert (tmp_path / "quarantine" / "huge.png").stat().st_size == 1 << 40
