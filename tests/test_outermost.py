"""What is taken away first when the embedded server stops. tests/test_signals.py asks a container's first process."""

from pathlib import Path

from published import publish_model

from builder.launchers.runtime import ensembles, outermost


def a_repository(folder: Path) -> Path:
    publish_model(folder, "classic")
    publish_model(folder, "bare", steps=[])
    publish_model(folder, "alone", alone=True)
    (folder / "foreign").mkdir()
    (folder / "foreign" / "config.pbtxt").write_text('name: "foreign" backend: "python"')
    (folder / "broken").mkdir()
    (folder / "broken" / "config.pbtxt").write_text("{")
    return folder


OUTERMOST = {"classic", "bare", "alone", "foreign"}


def test_it_takes_away_what_no_ensemble_asks(tmp_path: Path) -> None:
    repository = a_repository(tmp_path / "r")
    assert {folder.name for folder in outermost(repository)} == OUTERMOST
    assert {folder.name for folder in ensembles(repository)} == {"classic", "bare"}
