"""What is checked before it is published, served or deployed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from check_trees import BROKEN, CODE, FINE, PLACE, model
from test_cli import build_repo

from builder.build.loadable import require_loadable as require_staged
from builder.check.gate import require_loadable, targets_of
from builder.check.run import CheckOptions, check_repository
from builder.check.target import EMBEDDED, NEWEST, Target
from builder.errors import CheckError
from builder.repository import layout
from builder.repository.staging import StagedEnsemble, StagedNetwork, StagedStep
from builder.triton import advisories

ROLE = 'parameters {{ key: "role" value {{ string_value: "{}" }} }}\n'
TEXT_OF_OTHERS = 'platform: "torch_aoti"\n'


def test_servers_by_their_versions() -> None:
    assert targets_of(advisories.EMBEDDED) == targets_of("2.51.0") == (EMBEDDED,)
    assert targets_of("2.71") == (Target("26.07"),)
    assert targets_of("9.0") == (NEWEST,)
    assert targets_of(None) == (NEWEST, EMBEDDED)


def test_what_no_server_would_load_is_refused_with_its_places(tmp_path: Path) -> None:
    model(tmp_path / "fine", FINE)
    require_loadable(tmp_path, targets_of(None))
    model(tmp_path / "broken", BROKEN)
    with pytest.raises(CheckError, match=rf"broken/config\.pbtxt:{PLACE}\d+: {CODE}\d\d .*") as caught:
        require_loadable(tmp_path, targets_of(None))
    assert "--no-check" in str(caught.value)


def test_what_is_not_served_is_nobodys_business(tmp_path: Path) -> None:
    """A network of ours that no ensemble asks any more is not loaded; a folder that is no model, neither."""
    model(tmp_path / "former", BROKEN + ROLE.format("network"))
    (tmp_path / "notes").mkdir()
    require_loadable(tmp_path, targets_of("2.51"))


def test_the_embedded_server_is_given_what_it_knows(tmp_path: Path) -> None:
    config = FINE.replace("identity", "pytorch") + TEXT_OF_OTHERS
    model(tmp_path / "package", config)
    require_loadable(tmp_path, (EMBEDDED,))


def test_places_are_in_what_the_user_has(tmp_path: Path) -> None:
    repository, read = tmp_path / "repository", tmp_path / "read"
    model(repository / "broken", BROKEN)
    shutil.copytree(repository, read)
    with pytest.raises(CheckError) as caught:
        require_loadable(repository, (EMBEDDED,), read)
    assert f"{repository}/broken/config.pbtxt:{PLACE}" in str(caught.value)
    (read / "broken" / "config.pbtxt").write_text("\n\n" + BROKEN)
    with pytest.raises(CheckError) as caught:
        require_loadable(repository, (EMBEDDED,), read)
    assert f"{repository}/broken/config.pbtxt: {CODE}" in str(caught.value)


# --- commands ---


def test_serve_says_what_the_server_would(tmp_path: Path) -> None:
    """With the place in the file; and, unless it is to, it starts no server for that."""
    model(tmp_path / "models" / "broken", BROKEN + ROLE.format("model"))
    done = build_repo("serve", "--http-port", 0, "--grpc-port", 0, "--metrics-port", 0, "-r", "models", cwd=tmp_path)
    assert done.returncode == CheckError.exit_code, done.stderr
    assert f"models/broken/config.pbtxt:{PLACE}" in done.stderr


# --- builds ---


def staged(folder: Path, name: str, config: str) -> StagedNetwork:
    (folder / layout.VERSION_FOLDER).mkdir(parents=True)
    (folder / layout.VERSION_FOLDER / "model").write_text("-")
    return StagedNetwork(name, folder, lambda name, _: f'name: "{name}"\n' + config)


def test_builds_publish_nothing_that_is_refused(tmp_path: Path) -> None:
    fine = staged(tmp_path / "fine", "a", FINE)
    require_staged(tmp_path / "one", [], fine, None, {})
    broken = staged(tmp_path / "broken", "a", BROKEN)
    with pytest.raises(CheckError, match=rf"^a: Triton would refuse .*published:\n  a/config\.pbtxt:6:\d+: {CODE}"):
        require_staged(tmp_path / "two", [], broken, None, {})


def test_an_ensemble_is_judged_with_all_that_it_asks(tmp_path: Path) -> None:
    network = staged(tmp_path / "network", "a_network", FINE)
    step = StagedStep("before", model(tmp_path / "step", 'name: "before"\n' + FINE), layout.PREPROCESS)

    def render(network: str, version: int) -> str:
        maps = 'input_map {{ key: "x" value: "{}" }} output_map {{ key: "y" value: "{}" }}'
        return (
            f'name: "a" platform: "ensemble" max_batch_size: 4\n{FINE.split(chr(10), 2)[2]}\n'
            f'ensemble_scheduling {{ step {{ model_name: "before" model_version: 1 {maps.format("x", "b")} }}\n'
            f'step {{ model_name: "{network}" model_version: {version} {maps.format("b", "y")} }} }}'
        )

    (tmp_path / "ensemble" / layout.VERSION_FOLDER).mkdir(parents=True)
    ensemble = StagedEnsemble("a", tmp_path / "ensemble", render)
    require_staged(tmp_path / "one", [step], network, ensemble, {})
    with pytest.raises(CheckError, match="before"):
        require_staged(tmp_path / "two", [], network, ensemble, {})


def test_all_that_is_built_may_be_served(repository: Path) -> None:
    """As it lies there, and as the embedded server is given it: with links to what is large."""
    for target in (EMBEDDED, NEWEST, Target("26.04")):
        require_loadable(repository, (target,))
    report = check_repository([repository], CheckOptions(NEWEST, cores=64))
    assert [(one.model, one.rule.code, one.message) for one in report.findings] == []
