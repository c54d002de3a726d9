"""A server that follows its repository with a key: what nobody signed is not served."""

from __future__ import annotations

from pathlib import Path

import rebuilding
from conftest import build
from published import publish_model
from test_signing import keys, pulled, uri
from test_stores import of, publish, repository, tmp_path, to
from test_watch import Rollouts, following, now, serve

from builder.stores import signing

__all__ = ["keys", "pulled", "repository", "tmp_path", "uri"]  # fixtures


def test_what_is_not_signed_is_refused_until_it_is(
    repository: Path, uri: str, pulled: Path, keys: tuple[Path, Path]
) -> None:
    """Though the signature changes the lock alone."""
    rollouts = Rollouts()
    rollouts.served["m"] = (1,)
    with following(pulled, rollouts, allow=lambda: signing.require_served(pulled, keys[1])) as said:
        publish(repository, "new")
        to(uri, repository)
        of(uri, pulled)
        while f"m is not brought to what is published: {pulled} is not signed" not in (line := said.get(timeout=30)):
            assert line.startswith("m is not brought")  # a look may come between two steps of a pull
        assert rollouts.called == []
        to(uri, repository, sign=keys[0])
        of(uri, pulled, verify=keys[1])
        while (line := said.get(timeout=30)) != "serving m 2 (was 1), 0.2 s":
            assert line.startswith("m is not brought")
    assert rollouts.called == ["m"]


def test_the_command_goes_on_with_what_was_signed(uri: str, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """A real build and a real server, for the way of the key to the rollout; they take the time."""
    build(tmp_path, "models:\n" + rebuilding.entry())
    to(uri, tmp_path / "repository", sign=keys[0])
    of(uri, tmp_path / "signed", verify=keys[1])
    with serve(tmp_path / "signed", "--verify", str(keys[1])) as serving:
        before = now(serving.urls[0])
        publish_model(tmp_path / "signed", "unsigned")
        assert "is not signed" in serving.until_said("unsigned is not brought to what is published: ")
        assert now(serving.urls[1]) == before
