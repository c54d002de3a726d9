"""Versions that stay: one can go back to each, and what nobody needs can be let go of, killed at any moment or not."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import ANY_PORTS, build
from hypothesis import given, settings
from hypothesis import strategies as st
from published import publish_model
from test_publish import ALL, ALONE, AROUND, NAMES, ONNX, OTHER, PUBLISHED, killed_at_each_rename, require_tidy, tree
from typer.testing import CliRunner
from wholeness import answers, served

from builder.cli import app
from builder.containers.context import copy_served
from builder.data.images import SAMPLES
from builder.errors import PublishError, RepositoryError
from builder.launchers import LAUNCHERS
from builder.repository import disk, lock, retention, staging, versions
from builder.repository.history import history
from builder.repository.prune import Wish, prune
from builder.repository.rollback import RolledBack, roll_back
from builder.repository.served import read_repository, retired
from builder.triton import model_config
from client import Client

NOW = 1_800_000_000.0
DAY = 86400.0
YES = Wish(consent=True)
OVERWRITES = "would be overwritten"


def published(repository: Path, *forms: dict[str, Any]) -> list[str]:
    """What the model answered in each version."""
    found = []
    for form in forms:
        publish_model(repository, **form)
        found.append(answers(repository))
    return found


def numbers(repository: Path, name: str = "m") -> list[int]:
    return versions.numbers(repository / name)


def built(day: float) -> dict[str, Any]:
    """Of a model that was built so many days before NOW."""
    return {"asked_facts": {"built_at": datetime.fromtimestamp(NOW - day * DAY, UTC).isoformat(timespec="seconds")}}


# From the first of them to the second to the third; the third goes back to the second, wherever it is killed.
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "weights": (OTHER, ONNX, ALL),
    "smaller batches": (OTHER, ALL, ONNX),
    "format": (OTHER | AROUND, OTHER, ALL),
    "interface": (OTHER, ONNX, ONNX | {"classes": 3, "labels": None}),
    "from alone": (ONNX, ALL | AROUND, ALONE),
    "to alone": (ONNX, ALONE, ALL | AROUND),
    "alone": (ONNX, ALONE, ALL | {"alone": True}),
}


@pytest.mark.parametrize("way", WAYS)
def test_rollback_killed_at_any_rename_serves_the_new_or_the_old(way: str, tmp_path: Path) -> None:
    """And the same command goes on with it, and not one version further, though it does not say which."""
    first, second, third = published(tmp_path / "r", *WAYS[way])
    states = killed_at_each_rename(tmp_path / "r", {"roll_back": {}})
    switch = states.index(second)
    assert switch > 0
    assert (set(states[:switch]), set(states[switch:])) == ({third}, {second})
    require_tidy(tmp_path / "r")
    assert numbers(tmp_path / "r") == [1, 2, 3]
    # Both ways from there; and the next build is a new one.
    assert roll_back(tmp_path / "r", "m") == RolledBack("m", 2, 1)
    assert answers(tmp_path / "r") == first
    assert roll_back(tmp_path / "r", "m", 3) == RolledBack("m", 1, 3)
    assert answers(tmp_path / "r") == third
    assert publish_model(tmp_path / "r", **WAYS[way][0]).version == 4
    require_tidy(tmp_path / "r")


def test_an_image_has_what_is_served_alone(tmp_path: Path) -> None:
    published(tmp_path / "r", ONNX | AROUND, ALL)
    copy_served(tmp_path / "r", tmp_path / "models")
    assert set(served(tmp_path / "models")) == {"m", "m_onnxruntime", "preprocess_2"}
    roll_back(tmp_path / "r", "m")
    copy_served(tmp_path / "r", tmp_path / "former")
    assert set(served(tmp_path / "former")) == {"m", "m_onnxruntime", *AROUND["steps"]}
    assert lock.problems(tmp_path / "former") == []


def test_rollback_where_it_is_already_does_nothing(tmp_path: Path) -> None:
    published(tmp_path / "r", ONNX, ALL)
    before = tree(tmp_path / "r")
    assert roll_back(tmp_path / "r", "m", 2) == RolledBack("m", 2, 2)
    assert tree(tmp_path / "r") == before


def test_rollback_of_a_repository_from_before_the_lock(tmp_path: Path) -> None:
    first, _ = published(tmp_path / "r", ONNX, ALL)
    (tmp_path / "r" / lock.FILENAME).unlink()
    roll_back(tmp_path / "r", "m")
    assert answers(tmp_path / "r") == first
    (tmp_path / "r" / "m_onnxruntime" / "2" / "model.onnx").unlink()
    with pytest.raises(RepositoryError, match=r"m cannot go to version 2: m_onnxruntime/2/model.onnx is missing"):
        roll_back(tmp_path / "r", "m", 2)


def test_a_build_after_a_rollback_that_was_killed_is_what_one_goes_back_from(tmp_path: Path) -> None:
    """What the rollback was to do is forgotten then; and so is a version that was pruned meanwhile."""
    published(tmp_path / "r", ONNX, ALL, ONNX)
    note = staging.staging_root(tmp_path / "r") / "rollback-m.json"
    note.write_text(json.dumps({"model": "m", "before": 3, "after": 1}))
    assert publish_model(tmp_path / "r", **ALL).version == 4
    assert roll_back(tmp_path / "r", "m") == RolledBack("m", 4, 3)
    assert not note.exists()
    note.write_text(json.dumps({"model": "m", "before": 3, "after": 7}))
    assert roll_back(tmp_path / "r", "m") == RolledBack("m", 3, 2)
    note.write_text("{")
    assert roll_back(tmp_path / "r", "m") == RolledBack("m", 2, 1)


def test_nobody_goes_back_to_what_nobody_ever_got(tmp_path: Path) -> None:
    """Unless they say so: the second version is whole, and its build was killed before the switch."""
    repository = tmp_path / "r"
    published(repository, ONNX, ALL)
    shutil.copy(repository / "m" / "1" / "config.pbtxt", repository / "m")
    recorded = json.loads((repository / lock.FILENAME).read_text())
    del recorded["models"]["m"]["versions"]["2"]["published"]
    (repository / lock.FILENAME).write_text(json.dumps(recorded))
    assert publish_model(repository, **ALL).version == 3
    assert [release.was_published for release in history(repository, "m")] == [True, False, True]
    assert prune(repository, Wish(keep=1, consent=False), NOW).versions == {}  # 2 is the one before, whatever it is
    assert roll_back(repository, "m") == RolledBack("m", 3, 1)
    assert prune(repository, Wish(keep=1, consent=False), NOW).versions["m"] == (2,)
    assert roll_back(repository, "m", 2) == RolledBack("m", 1, 2)
    assert [release.was_published for release in history(repository, "m")] == [True, True, True]


def test_a_build_that_was_killed_after_the_switch_is_gone_back_to(tmp_path: Path) -> None:
    """It did not get to say that it is published, and the next one says so."""
    repository = tmp_path / "r"
    published(repository, ONNX, ALL)
    recorded = json.loads((repository / lock.FILENAME).read_text())
    del recorded["models"]["m"]["versions"]["2"]["published"]
    (repository / lock.FILENAME).write_text(json.dumps(recorded))
    publish_model(repository, **ALL)
    assert roll_back(repository, "m") == RolledBack("m", 3, 2)


def test_configs_are_newer_than_all_before_though_the_clock_went_back(tmp_path: Path) -> None:
    """Or Triton would take the model for what it has."""
    published(tmp_path / "r", ONNX, ALL)
    ahead = 4_000_000_000 * 10**9
    for name in ("m", "m_onnxruntime"):
        os.utime(tmp_path / "r" / name / "2" / "labels.txt", ns=(ahead, ahead))
    roll_back(tmp_path / "r", "m")
    for name in ("m", "m_onnxruntime"):
        assert (tmp_path / "r" / name / "config.pbtxt").stat().st_mtime_ns > ahead


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _change(path: Path) -> None:
    path.write_text("damaged")


def _add(path: Path) -> None:
    (path / "more").write_text("of somebody")


DAMAGE = {
    "m/1/labels.txt is missing": (_remove, "m/1/labels.txt"),
    "m/1 has no config.pbtxt that can be read": (_remove, "m/1/config.pbtxt"),
    "m/1/labels.txt differs from what was recorded": (_change, "m/1/labels.txt"),
    "m_onnxruntime/1/more is not recorded": (_add, "m_onnxruntime/1"),
    "m_onnxruntime/1/model.onnx differs from what was recorded": (_change, "m_onnxruntime/1/model.onnx"),
    "m_onnxruntime/1 is gone": (_remove, "m_onnxruntime/1"),
    "preprocess_1/1 is gone": (_remove, "preprocess_1"),
    "preprocess_1/config.pbtxt is missing": (_remove, "preprocess_1/config.pbtxt"),
    "preprocess_1/1/model.py differs from what was recorded": (_change, "preprocess_1/1/model.py"),
}


@pytest.mark.parametrize("problem", DAMAGE)
def test_nobody_goes_back_to_what_is_damaged(problem: str, tmp_path: Path) -> None:
    published(tmp_path / "r", ONNX, ALL)
    how, where = DAMAGE[problem]
    how(tmp_path / "r" / where)
    before = tree(tmp_path / "r")
    expected = "preprocess_1/1 has no config.pbtxt" if problem == "preprocess_1/config.pbtxt is missing" else problem
    with pytest.raises(RepositoryError, match=rf"m cannot go to version 1: {expected}.*choose another.*whole are: "):
        roll_back(tmp_path / "r", "m")
    assert tree(tmp_path / "r") == before
    assert [bool(release.problem) for release in history(tmp_path / "r", "m")] == [False, True]


def test_what_cannot_be_gone_back_to(tmp_path: Path) -> None:
    publish_model(tmp_path / "r", **ONNX)
    with pytest.raises(RepositoryError, match="m serves version 1, and there is none before it; its versions: 1"):
        roll_back(tmp_path / "r", "m")
    with pytest.raises(RepositoryError, match="m has no version 7; its versions: 1"):
        roll_back(tmp_path / "r", "m", 7)
    for name in ("n", "m_onnxruntime", "preprocess_1"):
        with pytest.raises(RepositoryError, match=f"has no model '{name}'; it has m"):
            roll_back(tmp_path / "r", name)
    with pytest.raises(RepositoryError, match="is no repository"):
        roll_back(tmp_path / "none", "m")
    assert not (tmp_path / "none").exists()


def test_a_config_that_was_lost_is_brought_back(tmp_path: Path) -> None:
    first, second = published(tmp_path / "r", ONNX, ALL)
    (tmp_path / "r" / "m" / "config.pbtxt").unlink()
    with pytest.raises(RepositoryError, match=r"m has lost its config.pbtxt.*of 1, 2: --to N"):
        roll_back(tmp_path / "r", "m")
    assert prune(tmp_path / "r", Wish(keep=1, consent=True), NOW).versions == {}
    assert roll_back(tmp_path / "r", "m", 2) == RolledBack("m", None, 2)
    assert answers(tmp_path / "r") == second
    (tmp_path / "r" / "m_onnxruntime" / "config.pbtxt").unlink()
    roll_back(tmp_path / "r", "m")
    assert answers(tmp_path / "r") == first


@pytest.mark.parametrize("garbage", [b"no config", b"\xff\xfe", b""], ids=["words", "bytes", "nothing"])
def test_a_config_that_was_overwritten_is_one_that_was_lost(garbage: bytes, tmp_path: Path) -> None:
    first, second = published(tmp_path / "r", ONNX, ALL)
    for name in ("m", "m_onnxruntime"):
        (tmp_path / "r" / name / "config.pbtxt").write_bytes(garbage)
    assert roll_back(tmp_path / "r", "m", 1) == RolledBack("m", None, 1)
    assert answers(tmp_path / "r") == first
    (tmp_path / "r" / "m" / "config.pbtxt").write_bytes(garbage)
    publish_model(tmp_path / "r", **ONNX)
    assert max(int(folder.name) for folder in (tmp_path / "r" / "m").glob("[0-9]*")) == 3
    assert roll_back(tmp_path / "r", "m", 2).after == 2
    assert answers(tmp_path / "r") == second


def by_hand(repository: Path, name: str, version: int) -> None:
    """An ensemble that somebody wrote around a model."""
    folder = repository / "by_hand"
    (folder / "1").mkdir(parents=True, exist_ok=True)
    call = f'step {{ model_name: "{name}" model_version: {version} }}'
    (folder / "config.pbtxt").write_text(f'name: "by_hand" platform: "ensemble" ensemble_scheduling {{ {call} }}')


def test_an_ensemble_of_somebody_keeps_a_model_what_it_asks(tmp_path: Path) -> None:
    """One cannot go back to an ensemble, which another could not ask; see also what is published over it."""
    published(tmp_path / "r", ONNX, ALONE, ALONE)
    by_hand(tmp_path / "r", "m", -1)
    with pytest.raises(PublishError, match="would be overwritten with the ensemble of 'm'"):
        roll_back(tmp_path / "r", "m", 1)
    assert roll_back(tmp_path / "r", "m").after == 2


def test_history_says_when_from_what_and_how_well(tmp_path: Path) -> None:
    facts = {"network": "lenet", "weights": "random, seed 0", "format": "onnx", "precision": "fp32"}
    figures = {"max_abs_error": "1.000e-06", "top1_agreement": "1.0000"}
    publish_model(tmp_path / "r", **ONNX, facts=facts, asked_facts=figures | built(3)["asked_facts"])
    publish_model(tmp_path / "r", **ALL, facts=facts, asked_facts={"built_at_8.9": "2026-01-02T00:00:00+00:00"})
    publish_model(tmp_path / "r", **ALL, facts=facts)
    third, second, first = history(tmp_path / "r", "m")
    assert [third.version, second.version, first.version] == [3, 2, 1]
    assert [third.is_current, second.is_current, first.is_current] == [True, False, False]
    assert (first.origin, first.figures) == (facts, figures)
    assert (third.built_at, second.built_at) == (None, "2026-01-02T00:00:00+00:00")
    assert first.bytes == disk.used(tmp_path / "r" / part / "1" for part in ("m", "m_onnxruntime", "preprocess_1"))
    shutil.rmtree(tmp_path / "r" / "m_onnxruntime" / "1")
    assert [bool(release.problem) for release in history(tmp_path / "r", "m", read=False)] == [False, False, True]


@pytest.mark.parametrize(
    ("forms", "wish"),
    [
        ([ONNX | AROUND, OTHER, OTHER, ALL, ALL], {}),
        ([ALL, ONNX | {"classes": 3, "labels": None}, ALONE, ONNX, ALL], {"keep": 3}),
        ([ONNX | AROUND, ALL | AROUND], {"removed": ["m"]}),
    ],
)
def test_prune_killed_at_any_rename_leaves_what_is_served(
    forms: list[dict[str, Any]], wish: dict[str, Any], tmp_path: Path
) -> None:
    """`answers` holds all that is there to what a server can load, and to the lock, after each death."""
    *_, last = published(tmp_path / "r", *forms)
    publish_model(tmp_path / "r", "other", **ONNX)
    other = answers(tmp_path / "r", "other")
    states = killed_at_each_rename(tmp_path / "r", {"prune": wish})
    assert len(states) > 4
    assert set(states) <= {last, "nothing"}
    assert answers(tmp_path / "r", "other") == other
    require_tidy(tmp_path / "r")
    if "removed" in wish:
        assert set(served(tmp_path / "r")) == {"other", "other_onnxruntime", "preprocess_1"}
    else:
        assert numbers(tmp_path / "r") == [5 - back for back in reversed(range(wish.get("keep", retention.KEPT)))]
        require_no_part_is_left(tmp_path / "r")


def require_no_part_is_left(repository: Path) -> None:
    """Each version of a network belongs to one of what clients ask; what warms up is for one of them."""
    needed = {pin for name in versions.asked(repository) for one in numbers(repository, name)
              for pin in versions.pins(repository, name, one)}  # fmt: skip
    there = {(name, number) for name in served(repository) for number in numbers(repository, name)}
    assert there == {tuple(pin) for pin in needed}


def test_prune_shows_first_what_it_would_do(tmp_path: Path) -> None:
    published(tmp_path / "r", ONNX, OTHER, ALL, ALL)
    before = tree(tmp_path / "r")
    shown = prune(tmp_path / "r", Wish(), NOW)
    assert not shown.is_done
    assert tree(tmp_path / "r") == before
    assert shown.versions == {"m": (1, 2), "m_onnxruntime": (1,), "m_openvino": (2,), "preprocess_1": (1,)}
    full = disk.used([tmp_path / "r"])
    done = prune(tmp_path / "r", YES, NOW)
    assert (done.versions, done.bytes) == (shown.versions, shown.bytes)
    # The lock gets shorter, too.
    assert 0 <= full - disk.used([tmp_path / "r"]) - done.bytes < 8192
    assert prune(tmp_path / "r", Wish(), NOW).versions == {}
    # One version goes unasked, and not if one insists on being shown.
    publish_model(tmp_path / "r", **ALL)
    assert not prune(tmp_path / "r", Wish(consent=False), NOW).is_done
    assert prune(tmp_path / "r", Wish(), NOW).is_done
    assert numbers(tmp_path / "r") == [4, 5]


def test_prune_frees_what_has_no_other_name(tmp_path: Path) -> None:
    published(tmp_path / "r", *(ONNX | {"files": {"model.onnx": bytes([one]) * 100_000}} for one in range(4)))
    network = tmp_path / "r" / "m_onnxruntime"
    os.link(network / "1" / "model.onnx", tmp_path / "elsewhere")
    (network / "2" / "model.onnx").unlink()
    os.link(network / "3" / "model.onnx", network / "2" / "model.onnx")
    assert prune(tmp_path / "r", Wish(keep=1, consent=False), NOW).bytes < 50_000
    (tmp_path / "elsewhere").unlink()
    assert 100_000 <= prune(tmp_path / "r", Wish(keep=1, consent=False), NOW).bytes < 150_000


def test_prune_keeps_what_servers_have_and_what_ensembles_of_others_ask(tmp_path: Path) -> None:
    published(tmp_path / "r", *[ALONE] * 6)
    by_hand(tmp_path / "r", "m", 2)
    asked = Wish(served={"m": frozenset({3})}, consent=True)
    assert prune(tmp_path / "r", asked, NOW).versions == {"m": (1, 4)}
    by_hand(tmp_path / "r", "m", -1)
    gone = Wish(removed=["m"], only_removed=True, consent=True)
    assert prune(tmp_path / "r", gone, NOW).kept == ("m stays: an ensemble asks it",)
    shutil.rmtree(tmp_path / "r" / "by_hand")
    by_server = Wish(removed=["m"], served={"m": frozenset({6})}, consent=True)
    assert prune(tmp_path / "r", by_server, NOW).kept == ("m stays: a server has it",)
    assert prune(tmp_path / "r", gone, NOW).removed == ("m",)
    assert tree(tmp_path / "r").keys() == {lock.FILENAME}


def test_an_ensemble_of_others_that_asks_a_network_keeps_it(tmp_path: Path) -> None:
    published(tmp_path / "r", ONNX, OTHER, OTHER, OTHER)
    by_hand(tmp_path / "r", "m_onnxruntime", 1)
    assert prune(tmp_path / "r", YES, NOW).versions == {"m": (1, 2), "m_openvino": (2,)}
    by_hand(tmp_path / "r", "m_onnxruntime", -1)
    assert prune(tmp_path / "r", YES, NOW).versions == {}
    assert retired(tmp_path / "r") == set()


def test_what_a_killed_build_left_goes_too(tmp_path: Path) -> None:
    """A network's version that no ensemble got, and whose config beside the versions lists it."""
    published(tmp_path / "r", ONNX, ONNX)
    network = tmp_path / "r" / "m_onnxruntime"
    shutil.copytree(network / "2", network / "3")
    both = model_config.read(network / "config.pbtxt")
    both.version_policy.specific.versions[:] = [2, 3]
    (network / "config.pbtxt").write_text(model_config.to_text(both))
    assert prune(tmp_path / "r", Wish(), NOW).versions == {"m_onnxruntime": (3,)}
    assert served(tmp_path / "r")["m_onnxruntime"].version_policy.specific.versions == [2]
    assert lock.problems(tmp_path / "r") == []


def test_models_are_chosen_and_those_of_no_entry_go_as_a_whole(tmp_path: Path) -> None:
    for name in ("m", "n", "o"):
        for form in (ONNX, ONNX, ONNX, OTHER):
            publish_model(tmp_path / "r", name, **form)
    assert set(prune(tmp_path / "r", Wish(models=("m",)), NOW).versions) == {"m", "m_onnxruntime"}
    gone = Wish(removed=["n"], only_removed=True)
    shown = prune(tmp_path / "r", gone, NOW)
    assert not shown.is_done  # though it were one version
    assert prune(tmp_path / "r", Wish(removed=["n"], only_removed=True, consent=True), NOW).removed == ("n",)
    assert [model.name for model in read_repository(tmp_path / "r")] == ["m", "o"]
    assert numbers(tmp_path / "r") == [1, 2, 3, 4]
    with pytest.raises(RepositoryError, match="has no model 'n'; it has m, o"):
        prune(tmp_path / "r", Wish(models=("n",)), NOW)


def model(ages: Sequence[float | None], current: int, **changes: Any) -> dict[str, retention.Model]:
    found = {
        number: retention.Version(built_at=None if age is None else NOW - age * DAY)
        for number, age in enumerate(ages, 1)
    }
    return {"m": retention.Model(found, current=current, **changes)}


RULES: list[tuple[dict[str, retention.Model], int | None, float | None, tuple[int, ...]]] = [
    (model([9, 8, 7, 6, 5], 5), None, None, (1, 2, 3)),
    (model([9, 8, 7, 6, 5], 5), 1, None, (1, 2, 3)),
    (model([9, 8, 7, 6, 5], 5), 3, None, (1, 2)),
    (model([9, 8, 7, 6, 5], 5), 9, None, ()),
    (model([9, 8, 7, 6, 5], 5), None, 7.5, (1, 2)),
    (model([9, 8, 7, 6, 5], 5), 4, 7.5, (1,)),
    (model([9, 8, 7, 6, 5], 5), 2, 8.5, (1,)),
    # After a rollback: the version before the current one, and the newest, stay.
    (model([9, 8, 7, 6, 5], 3), 1, None, (1, 4)),
    (model([9, 8, 7, 6, 5], 1), 2, None, (2, 3, 4)),
    # What has no time, or one that is still to come, is new.
    (model([9, None, -1, 6, 5], 5), None, 1, (1,)),
    (model([9, 8, 7, 6, 5], 5, pinned=frozenset({2})), 1, None, (1, 3)),
]


@pytest.mark.parametrize(("models", "keep", "older_than", "expected"), RULES)
def test_what_may_go(
    models: dict[str, retention.Model], keep: int | None, older_than: float | None, expected: tuple[int, ...]
) -> None:
    seconds = None if older_than is None else older_than * DAY
    assert retention.doomed(models, keep, seconds, NOW).get("m", ()) == expected


def test_a_damaged_version_is_no_reason_to_let_go_of_the_good_one_before_it() -> None:
    found = {number: retention.Version(is_whole=number != 4) for number in range(1, 6)}
    models = {"m": retention.Model(found, current=5)}
    assert retention.doomed(models, 2, None, NOW) == {"m": (1, 2)}


def test_what_is_called_by_what_stays_stays_too() -> None:
    """Whoever calls it: parts, what clients ask, and a model that was to go as a whole."""
    first, second = ("net", 1), ("net", 2)
    models = {
        "a": retention.Model(
            {1: retention.Version(frozenset({first})), 2: retention.Version(frozenset({second}))}, current=2
        ),
        "net": retention.Model(
            {1: retention.Version(), 2: retention.Version(), 3: retention.Version()}, is_asked=False
        ),
        "b": retention.Model({1: retention.Version(), 2: retention.Version()}, current=2),
        "c": retention.Model({1: retention.Version(frozenset({("b", 1)}))}, current=1),
    }
    assert retention.doomed(models, 2, None, NOW) == {"net": (3,)}
    assert retention.doomed(models, 2, None, NOW, removed=["b"]) == {"net": (3,)}
    assert retention.doomed(models, 2, None, NOW, removed=["b", "c"]) == {"b": (1, 2), "c": (1,), "net": (3,)}
    assert retention.doomed(models, 2, None, NOW, removed=["a"]) == {"a": (1, 2), "net": (1, 2, 3)}


STEPS = st.one_of(
    st.tuples(st.just("publish"), PUBLISHED),
    st.tuples(st.just("publish"), PUBLISHED),
    st.tuples(st.just("back"), st.sampled_from(NAMES), st.integers(0, 6)),
    st.tuples(st.just("prune"), st.integers(1, 3)),
)


@settings(max_examples=8, deadline=None)
@given(st.lists(STEPS, min_size=4, max_size=9))
def test_after_whatever_was_done_one_can_go_back_to_all_that_is_there(steps: list[tuple[Any, ...]]) -> None:
    """And it answers then as it did when it was built; what is current is whole after each step.

    It takes half a minute on a busy disk: each step has the disk hold what it wrote, and is then read back whole.
    """
    with tempfile.TemporaryDirectory() as folder:
        repository, expected = Path(folder) / "r", dict[str, dict[int, str]]()
        for step in steps:
            _do(repository, step, expected)
            require_all(repository, expected)
        for name, answered in expected.items():
            for number, answer in answered.items():
                refusal = refused(roll_back, repository, name, number)
                assert refusal or answers(repository, name) == answer
                assert not refusal or OVERWRITES in refusal
                require_tidy(repository)


def refused(function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """Why; nothing where it went well."""
    try:
        function(*arguments, **named)
    except (PublishError, RepositoryError) as error:
        return str(error)
    return ""


def _do(repository: Path, step: tuple[Any, ...], expected: dict[str, dict[int, str]]) -> None:
    match step:
        case "publish", one:
            _publish(repository, one, expected)
        case "back", name, to if name in expected:
            before = current(repository, name)
            refusal = refused(roll_back, repository, name, to or None)
            assert not refusal or OVERWRITES in refusal or to not in expected[name]
            target = to or retention.before(expected[name], before)
            assert current(repository, name) == (before if refusal else target)
        case "prune", keep if expected:
            _prune(repository, keep, expected)


def _publish(repository: Path, one: dict[str, Any], expected: dict[str, dict[int, str]]) -> None:
    refusal = refused(publish_model, repository, one["name"], **one["kind"] | one["form"] | one["changes"])
    assert not refusal or OVERWRITES in refusal
    if not refusal:
        answered = expected.setdefault(one["name"], {})
        version = current(repository, one["name"])
        assert version > max(answered, default=0)
        answered[version] = answers(repository, one["name"])


def _prune(repository: Path, keep: int, expected: dict[str, dict[int, str]]) -> None:
    stay = {name: {current(repository, name), max(answered)} for name, answered in expected.items()}
    for name, answered in expected.items():
        stay[name] |= {number for number in answered if number == retention.before(answered, current(repository, name))}
    gone = prune(repository, Wish(keep=keep, consent=True), NOW).versions
    require_no_part_is_left(repository)
    for name, answered in expected.items():
        assert not stay[name] & set(gone.get(name, ()))
        for number in gone.get(name, ()):
            del answered[number]
        assert len(answered) <= max(keep, 2) + 1


def current(repository: Path, name: str) -> int:
    found = versions.current(repository / name)
    assert found is not None
    return found


def require_all(repository: Path, expected: dict[str, dict[int, str]]) -> None:
    if not expected:
        return
    require_tidy(repository)
    assert [model.name for model in read_repository(repository)] == sorted(expected)
    for name, answered in expected.items():
        assert answers(repository, name) == answered[current(repository, name)]
        releases = history(repository, name)
        assert [release.version for release in releases] == sorted(answered, reverse=True)
        assert not any(release.problem for release in releases)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_commands(tmp_path: Path) -> None:
    repository, manifest = str(tmp_path / "r"), tmp_path / "models.yaml"
    for days in (4000, 3999, -4000, -4001):  # two were built while the clock was ahead
        publish_model(tmp_path / "r", **ALONE, **built(days))
    publish_model(tmp_path / "r", "gone", **ONNX)
    assert "m 3 is published (was 4)" in run("rollback", "m", "-r", repository).stdout
    assert "m 3 is what is published already" in run("rollback", "m", "--to", "3", "-r", repository).stdout
    told = json.loads(run("rollback", "m", "--to", "4", "-r", repository, "--json").stdout)
    assert told == {"model": "m", "before": 3, "after": 4, "servers": []}
    rows = run("history", "m", "-r", repository).stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["VERSION", "4", "3", "2", "1"]
    assert rows[1].endswith("current")
    told = json.loads(run("history", "m", "-r", repository, "--json").stdout)
    assert [one["version"] for one in told["versions"] if one["is_current"] and one["whole"]] == [4]
    manifest.write_text("models:\n  m: {network: lenet, weights: random}\n")
    shown = run("prune", "--removed", "-m", str(manifest), "-r", repository).stdout
    assert "gone: all of it" in shown
    assert "nothing was removed: do it with --yes" in shown
    assert "freed" in run("prune", "--removed", "--yes", "-m", str(manifest), "-r", repository).stdout
    assert [model.name for model in read_repository(tmp_path / "r")] == ["m"]
    assert run("prune", "m", "--older-than", "30 days", "-r", repository).exit_code == 2
    told = json.loads(run("prune", "m", "--older-than", "30d", "-r", repository, "--json").stdout)
    assert (told["done"], told["versions"]) == (False, {"m": [1, 2]})
    told = json.loads(run("prune", "--keep", "3", "-r", repository, "--json").stdout)
    assert (told["done"], told["versions"]) == (True, {"m": [1]})
    assert "nothing to prune" in run("prune", "--keep", "3", "-r", repository).stdout


FULL_DISK = """
import resource, sys
from builder.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sys.argv = ["build-repo", *sys.argv[1:]]
main()
"""


def test_a_full_disk_costs_nothing_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """No file may grow here, which fails as it does where there is no room."""
    repository = tmp_path / "r"
    states = published(repository, ONNX, OTHER, ALL)
    rollback, pruning = ["rollback", "m", "-r", str(repository)], ["prune", "--yes", "-r", str(repository)]
    for command in (rollback, pruning):
        full = subprocess.run(
            [sys.executable, "-c", FULL_DISK, *command], capture_output=True, text=True, check=False, timeout=120
        )
        assert full.returncode == PublishError.exit_code, full.stderr
        assert "mend the cause and run this again" in full.stderr
        assert answers(repository) == states[2]
    assert run(*pruning).exit_code == 0
    assert numbers(repository) == [2, 3]
    require_tidy(repository)
    assert run(*rollback).exit_code == 0
    assert answers(repository) == states[1]


def test_the_real_server_answers_as_before(tmp_path: Path) -> None:
    """Another format and other weights were published meanwhile; beside it is a model that never changed.

    It takes fifteen seconds: three networks are built, and a server loads what is there.
    """
    entry = "{network: lenet, weights: random, labels: [a, b, c, d, e, f, g, h, i, j]"
    build(tmp_path, f"models:\n  m: {entry}}}\n  same: {entry}}}\n")
    build(tmp_path, f"models:\n  m: {entry}, seed: 1, format: onnx}}\n")
    repository = tmp_path / "repository"
    assert retired(repository) == {"m_torchscript"}
    assert roll_back(repository, "m") == RolledBack("m", 2, 1)
    assert retired(repository) == {"m_onnx"}
    server = LAUNCHERS["embedded"].launch(repository, ANY_PORTS)
    try:
        with Client(server.endpoints.grpc) as client:
            found, expected = (client.classify(SAMPLES / "chelsea.jpg", name) for name in ("m", "same"))
            assert client.model("m").versions == ("1",)
    finally:
        server.stop()
    assert [(one.label, one.probability) for one in found] == [(one.label, one.probability) for one in expected]
