"""Which releases of Triton a repository may be judged for."""

from __future__ import annotations

import pytest

from builder.check.config import schema
from builder.check.target import EMBEDDED, FIELDS, NEWEST, Target, named, of_server
from builder.errors import UnusableError
from builder.triton import advisories, releases


def test_a_target_is_named_by_release_by_version_and_by_word() -> None:
    assert named("24.10") == named("2.51") == named("2.51.0") == named("embedded") == EMBEDDED
    assert named("newest") == named("26.09") == NEWEST
    assert named("2.59.1") == Target("25.07")
    assert of_server("2.59.3") == (Target("25.06"), Target("25.07"))


@pytest.mark.parametrize("text", ["", "27.01", "23.12", "2.41", "2", "24", "24.13", "new"])
def test_what_is_no_release_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(UnusableError, match=r"from 24\.01 to 26\.09, .* from 2\.42 to 2\.73, newest or embedded"):
        named(text)


def test_the_tables_of_releases_agree() -> None:
    assert all(releases.SERVERS[release.tag] == release.triton for release in releases.RELEASES)
    assert (max(releases.SERVERS), releases.SERVERS[EMBEDDED.release]) == (NEWEST.release, advisories.EMBEDDED)


def test_the_newest_knows_every_field() -> None:
    assert not list(NEWEST.unknown())
    for field in FIELDS:
        message = schema().ModelConfig.DESCRIPTOR
        for name in field.path[:-1]:
            message = message.fields_by_name[name].message_type if name != "*" else message
        assert (message.name, field.path[-1] in message.fields_by_name) == (field.owner, True)
        assert field.since in releases.SERVERS
