"""What concerns several models: in which order they are judged, who is looked at, and whose fault a failure is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.check import config, order
from builder.check.findings import Finding, Rule
from builder.check.model import Context, Model
from builder.check.run import CheckOptions, Report, check_repository, looked_at
from builder.check.target import EMBEDDED
from builder.errors import UnusableError

CASES = Path(__file__).parent / "repositories"
ENDS = "".join(
    f'{end} {{ name: "{name}" data_type: TYPE_FP32 dims: 4 }}\n' for end, name in (("input", "x"), ("output", "y"))
)
NET = f'backend: "custom"\n{ENDS}'
STEP = 'model_name: "{}" model_version: -1 input_map {{ key: "x" value: "x" }} output_map {{ key: "y" value: "y" }}'


def _ensemble(*names: str) -> str:
    return (
        f'platform: "ensemble"\n{ENDS}ensemble_scheduling {{ '
        + " ".join(f"step {{ {STEP.format(name)} }}" for name in names)
        + " }\n"
    )


def _model(name: str, *asked: str) -> Model:
    read = config.parse(_ensemble(*asked) if asked else NET, Path(name) / "config.pbtxt")
    return Model(name, Path(name), read, read.message, (1,))


def _models(**asked: tuple[str, ...]) -> dict[str, Model]:
    return {name: _model(name, *steps) for name, steps in asked.items()}


def _write(repository: Path, name: str, text: str) -> Path:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(text)
    return repository / name


def _check(*paths: Path) -> Report:
    """What is found of ensembles and repositories, and nothing else."""
    report = check_repository(paths, CheckOptions(EMBEDDED))
    return replace(report, findings=tuple(one for one in report.findings if one.rule.code.startswith("TMR6")))


def _codes(report: Report) -> list[tuple[str, str]]:
    return [(finding.model, finding.rule.code) for finding in report.findings]


def test_steps_come_before_their_ensembles() -> None:
    models = _models(a=("b", "c"), b=("c",), d=(), c=("d", "nowhere"))
    assert [model.name for model in order.in_order(models)] == ["d", "c", "b", "a"]
    assert [model.name for model in order.in_order(models, ["a"])] == ["a", "d", "c", "b"]


def test_a_chain_may_be_longer_than_a_stack_is_deep() -> None:
    length = 3000
    models = {f"m{number}": _model(f"m{number}", f"m{number + 1}") for number in range(length)}
    models[f"m{length}"] = _model(f"m{length}")
    assert [model.name for model in order.in_order(models)] == [f"m{number}" for number in range(length, -1, -1)]
    assert order.circles(models) == {}


def test_who_is_in_a_circle_and_who_leads_to_one() -> None:
    models = _models(a=("b",), b=("c", "e"), c=("b",), d=("d",), e=(), f=("e",), g=("f", "a"))
    ways = order.circles(models)
    assert ways == {"a": ("b", "c"), "b": ("b", "c"), "c": ("c", "b"), "d": ("d",), "g": ("b", "c")}


def test_a_folder_of_a_model_is_judged_with_the_models_that_it_asks_and_no_others(tmp_path: Path) -> None:
    outer = _write(tmp_path, "outer", _ensemble("inner"))
    _write(tmp_path, "inner", _ensemble("net"))
    net = _write(tmp_path, "net", NET)
    _write(tmp_path, "broken", "platform {")
    report = _check(outer, net)
    assert (report.models, report.findings) == (("outer", "net"), ())
    shutil.rmtree(net)
    assert _codes(_check(outer)) == [("outer", "TMR621")]
    assert _codes(_check(outer, tmp_path / "inner")) == [("outer", "TMR621"), ("inner", "TMR620")]


def test_a_repository_is_looked_at_once_however_often_it_is_named(tmp_path: Path) -> None:
    net = _write(tmp_path / "models", "net", NET)
    (tmp_path / "link").symlink_to(tmp_path / "models")
    report = _check(tmp_path / "models", net, tmp_path / "link", net / "..")
    assert (report.models, report.findings) == (("net",), ())


def test_folders_of_models_in_several_repositories_are_no_two_of_one_name(tmp_path: Path) -> None:
    here, there = (_write(tmp_path / name, "net", NET) for name in ("here", "there"))
    assert _check(here, there).findings == ()
    assert _codes(_check(here.parent, there.parent)) == [("net", "TMR691")]


UNUSABLE = {"nowhere": "no such folder", "empty": "nothing in it", "file": "it is no folder, and no config.pbtxt"}


@pytest.mark.parametrize("made", UNUSABLE)
def test_what_is_no_repository_is_unusable(made: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableError, match=f"/{made}: .*{UNUSABLE[made]}"):
        _check(tmp_path / made)


@pytest.mark.parametrize(("asked", "said"), [("deteKtor", "; did you mean 'detector'?"), ("far", "")])
def test_a_step_that_is_misspelt_is_told_what_is_likely_meant(asked: str, said: str, tmp_path: Path) -> None:
    _write(tmp_path, "detektors", _ensemble(asked))
    _write(tmp_path, "detector", NET)
    (finding,) = _check(tmp_path).findings
    assert finding.message == f"step 0 asks the model {asked!r}, which is in no repository{said}"


class _Failing:
    RULES: tuple[Rule, ...] = ()

    def check(self, model: Model, _: Context) -> Iterator[Finding]:
        yield from ()
        raise LookupError(f"what a rule did not foresee of {model.name}")


def test_a_rule_that_fails_is_told_and_stops_no_other() -> None:
    models = _models(a=("nowhere",))
    from builder.check.rules import steps

    findings = list(looked_at(models["a"], Context(EMBEDDED, models=models), {"bad": _Failing(), "steps": steps}))
    assert [finding.rule.code for finding in findings] == ["TMR699", "TMR620"]
    assert "did not foresee of a" in findings[0].message
    assert "build-repo" in findings[0].message


def test_the_version_that_a_step_forgot_is_written(tmp_path: Path) -> None:
    shutil.copytree(CASES / "TMR624" / "forgotten", tmp_path / "models")
    (finding,) = _check(tmp_path / "models").findings
    assert finding.is_safe
    text = finding.path.read_text()
    (edit,) = finding.edits
    mended = text[: edit.start] + edit.text + text[edit.end :]
    assert '      model_name: "net"\n      model_version: -1\n' in mended
    finding.path.write_text(mended)
    assert _check(tmp_path / "models").findings == ()


def test_a_model_whose_reading_fails_is_told_and_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from builder.check import backends

    def fail(model: Model) -> None:
        if model.name == "bad":
            raise LookupError("what a reader did not foresee")

    monkeypatch.setattr(backends, "fill", fail)
    for name in ("bad", "net"):
        _write(tmp_path, name, NET)
    _write(tmp_path, "all", _ensemble("bad"))
    report = _check(tmp_path)
    assert ("bad", "TMR699") in _codes(report)
    assert not report.refuses("net")


def test_sizes_of_more_digits_than_python_reads_end_nothing(tmp_path: Path) -> None:
    version = _write(tmp_path, "net", 'backend: "openvino"') / "1"
    version.mkdir(exist_ok=True)
    many = "9" * 5000
    layers = f'<layer id="0" type="Parameter" name="x"><data shape="{many}" element_type="f32"/></layer>'
    (version / "model.xml").write_text(f"<net><layers>{layers}</layers></net>")
    assert "TMR699" not in [code for _, code in _codes(_check(tmp_path))]
