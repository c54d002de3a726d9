"""What a server loads of a repository: all but what nothing asks any more."""

from pathlib import Path

from published import publish_model

from builder.launchers.wanted import wanted
from builder.triton import model_config


def a_repository(folder: Path) -> Path:
    publish_model(folder, "classic")
    publish_model(folder, "bare", steps=[])
    publish_model(folder, "alone", alone=True)
    (folder / "foreign").mkdir()
    (folder / "foreign" / "config.pbtxt").write_text('name: "foreign" backend: "python"')
    (folder / "broken").mkdir()
    (folder / "broken" / "config.pbtxt").write_text("{")
    (folder / "notes").mkdir()
    return folder


def retire(repository: Path, network: str) -> None:
    """As after a build in another format: the former network stays, and the ensemble asks another."""
    config = repository / network / "config.pbtxt"
    (repository / "former").mkdir()
    (repository / "former" / "config.pbtxt").write_text(config.read_text().replace(f'"{network}"', '"former"'))


def test_what_nothing_asks_any_more_is_left_out(tmp_path: Path) -> None:
    repository = a_repository(tmp_path / "r")
    (network,) = [path.name for path in repository.glob("classic_*")]
    everything = {path.parent.name for path in repository.glob("*/config.pbtxt")}
    assert set(wanted(repository)) == everything > {"classic", "bare", "alone", "foreign", "broken", network}
    retire(repository, network)
    assert set(wanted(repository)) == everything


def test_any_spelling_of_a_config_is_read(tmp_path: Path) -> None:
    """As another program, or protobuf, writes it."""
    repository = a_repository(tmp_path / "r")
    (network,) = [path.name for path in repository.glob("classic_*")]
    retire(repository, network)
    before = wanted(repository)
    for path in repository.glob("*/config.pbtxt"):
        if path.parent.name != "broken":
            path.write_text(model_config.to_text(model_config.read(path)))
    assert wanted(repository) == before


def test_somebody_elses_ensemble_keeps_what_it_asks(tmp_path: Path) -> None:
    repository = a_repository(tmp_path / "r")
    (network,) = [path.name for path in repository.glob("classic_*")]
    retire(repository, network)
    theirs = "platform: 'ensemble' ensemble_scheduling { step [ { model_name: 'former' model_version: -1 } ] }"
    (repository / "foreign" / "config.pbtxt").write_text(theirs)
    assert "former" in wanted(repository)
