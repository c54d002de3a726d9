"""build-repo: parse -> call -> print -> exit code."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from builder.errors import BuilderError

if TYPE_CHECKING:
    from builder.build import Outcome, Plan
    from builder.compare import Comparison, Row
    from builder.types import NetworkFacts

DEFAULT_COMMAND = "build"
OWN_OPTIONS = ("--help", "--version")


class BuildByDefault(TyperGroup):
    """`build-repo`, `build-repo -m FILE` and `build-repo alexnet` mean `build-repo build ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in OWN_OPTIONS):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="build-repo",
    cls=BuildByDefault,
    help="Build, verify, publish and serve Triton model repositories.\n\nWithout a command: build.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ManifestFile = Annotated[Path, typer.Option("--manifest", "-m", help="What to build.", metavar="FILE")]
Repository = Annotated[Path, typer.Option("--repository", "-r", help="Triton model repository.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Weights = Annotated[
    str | None, typer.Option(help="Weights for every entry, whatever it says, such as random.", metavar="SOURCE")
]
Port = Annotated[int, typer.Option(help="0: any free port.", min=0, max=65535)]


def _show_version(asked: bool) -> None:
    if asked:
        from builder import __version__

        print(f"build-repo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    del version  # its callback has printed it


@app.command()
def build(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Entries to build. Default: all.")
    ] = None,
    manifest: ManifestFile = Path("models.yaml"),
    repository: Repository = Path("model_repository"),
    weights: Weights = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be built, and build nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Export, verify and publish the models of a manifest."""
    from builder.build import build_repository, plan
    from builder.manifest import load_manifest

    plans = plan(load_manifest(manifest), models or (), weights)
    if dry_run:
        _print_plans(plans, repository, as_json)
        return
    with _progress(len(plans)) as report:
        outcome = build_repository(plans, repository, report)
    _print_outcome(outcome, repository, as_json)
    if outcome.failed:
        raise typer.Exit(outcome.failed[0].error.exit_code)


@app.command()
def networks(as_json: Json = False) -> None:
    """List the networks that a manifest can name."""
    from builder.networks import NETWORKS

    _print_facts([family.facts(name) for family in NETWORKS.values() for name in family.names()], as_json)


def _print_facts(facts: list[NetworkFacts], as_json: bool) -> None:
    if as_json:
        _print_json([asdict(fact) for fact in facts])
        return
    columns = ("NETWORK", "FAMILY", "YEAR", "LAYERS", "PARAMETERS", "TOP-1 %", "TOP-5 ERROR %", "GFLOPS", "DATASET")
    rows = [
        (f.name, f.family, f.year, f.layers, f"{f.parameters:,}", f.top1, f.top5_error, f.gflops, f.dataset)
        for f in facts
    ]
    _print_table(columns, rows, numbers=range(2, 8))


@app.command()
def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Entries of the manifest, or networks.")],
    manifest: ManifestFile = Path("models.yaml"),
    formats: Annotated[list[str] | None, typer.Option("--format", help="Only this one; may be repeated.")] = None,
    precisions: Annotated[list[str] | None, typer.Option("--precision", help="Only this one; may be repeated.")] = None,
    weights: Weights = None,
    calibration: Annotated[
        str | None, typer.Option(help="Images to calibrate int8 with, if the entry names none.", metavar="DIR")
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often each is timed, in turns.", min=1, max=100)] = 3,
    picture: Annotated[Path | None, typer.Option(help="Draw it too: .png, .svg or .pdf.", metavar="FILE")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Only what is published of the networks: nothing is built.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare a network's formats and precisions: size, speed, and whether each still computes the same."""
    from builder import compare as comparing
    from builder.manifest import load_manifest

    if published:
        _print_facts(comparing.network_facts(models), as_json)
        return
    file = load_manifest(manifest) if manifest.exists() else None
    plans = [comparing.entry_or_network(file, manifest, name, weights) for name in models]
    pictures = [picture and comparing.picture_path(picture, item.name, len(plans)) for item in plans]
    for item, path in zip(plans, pictures, strict=True):
        with _progress(1) as report:
            chosen = comparing.calibrated(item, calibration)
            result = comparing.compare(chosen, formats or (), precisions or (), rounds, report)
        _print_comparison(result, as_json)
        if path is not None:
            comparing.draw(result, path)


@app.command()
def serve(
    repository: Repository = Path("model_repository"),
    launcher: Annotated[str, typer.Option(help="How the server is run.")] = "embedded",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to other machines.")] = "127.0.0.1",
    http_port: Port = 8000,
    grpc_port: Port = 8001,
    metrics_port: Port = 8002,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the server's whole log.")] = False,
    as_json: Json = False,
) -> None:
    """Serve a repository in the foreground until Ctrl-C or SIGTERM."""
    from builder.errors import LaunchError
    from builder.launchers import LAUNCHERS, LaunchOptions

    if launcher not in LAUNCHERS:
        raise LaunchError(f"there is no launcher {launcher!r}; choose {', '.join(LAUNCHERS)}")
    options = LaunchOptions(host, http_port, grpc_port, metrics_port, verbose)
    if not as_json:
        _say(f"starting Triton over {repository} ...")
    server = LAUNCHERS[launcher].launch(repository, options)
    try:
        if as_json:
            _print_json({"ready": True} | asdict(server.endpoints))
        else:
            ends = server.endpoints
            _say(f"ready: gRPC {ends.grpc}, HTTP {ends.http}, metrics {ends.metrics}; Ctrl-C stops it")
        status = server.wait()
        raise LaunchError(f"the server ended by itself with status {status}; its last words are above")
    except (KeyboardInterrupt, SystemExit):
        _say("stopping: answering what is in flight ...")
    finally:
        server.stop()


@app.command()
def merge(
    sources: Annotated[list[Path], typer.Argument(metavar="REPO...", help="Repositories to take the models of.")],
    repository: Repository = Path("model_repository"),
    as_json: Json = False,
) -> None:
    """Gather repositories built on different GPUs into one."""
    from builder.merge import merge_repositories

    merged = merge_repositories(sources, repository)
    if as_json:
        _print_json({"repository": str(repository), "merged": [asdict(model) for model in merged]})
        return
    rows = [(m.name, m.version, ", ".join(m.capabilities) or None, ", ".join(m.sources)) for m in merged]
    _print_table(("MODEL", "VERSION", "PLANS FOR", "FROM"), rows, numbers=(1,))


@app.command()
def schema() -> None:
    """Print the JSON Schema of models.yaml, for editors."""
    from builder.manifest import json_schema
    from builder.registries import manifest_choices

    print(json.dumps(json_schema(manifest_choices()), indent=2))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """A spinner on a terminal's standard error; silence in pipes."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    seen: list[str] = []
    with console.status("") as status:

        def report(step: str) -> None:
            name = step.split(":", 1)[0]
            if name not in seen:
                seen.append(name)
            status.update(f"[{len(seen)}/{total}] {step}")

        yield report


def _print_plans(plans: list[Plan], repository: Path, as_json: bool) -> None:
    records = [
        {
            "name": p.name,
            "network": p.spec.network,
            "weights": str(p.weights.path or p.weights.name),
            "format": p.spec.format,
            "precision": p.spec.precision,
            "device": p.spec.device,
            "publishes": [str(repository / p.name), str(repository / p.network_model)],
        }
        for p in plans
    ]
    if as_json:
        _print_json(records)
        return
    columns = ("MODEL", "NETWORK", "WEIGHTS", "FORMAT", "PRECISION", "DEVICE", "PUBLISHES")
    _print_table(columns, [(*list(r.values())[:-1], ", ".join(r["publishes"])) for r in records])


def _print_outcome(outcome: Outcome, repository: Path, as_json: bool) -> None:
    for failure in outcome.failed:
        _say(f"{failure.name}: FAILED: {failure.error}")
    untrained = [model.name for model in outcome.built if not model.trained]
    if untrained:
        _say(f"WARNING: random weights, so the answers are MEANINGLESS: {', '.join(untrained)}")
    if as_json:
        failed = [
            {"name": f.name, "error": type(f.error).__name__, "message": str(f.error), "exit_code": f.error.exit_code}
            for f in outcome.failed
        ]
        _print_json({"repository": str(repository), "built": [asdict(m) for m in outcome.built], "failed": failed})
    elif outcome.built:
        columns = ("MODEL", "VERSION", "FORMAT", "PRECISION", "MB", "SECONDS", "MAX ERROR", "TOP-1")
        rows = [
            (
                m.name,
                m.version,
                m.format,
                m.precision,
                f"{m.artifact_bytes / 1e6:.1f}",
                f"{m.seconds:.1f}",
                f"{m.check.max_abs_error:.1e}",
                f"{m.check.top1_agreement:.0%}",
            )
            for m in outcome.built
        ]
        _print_table(columns, rows, numbers=(1, 4, 5, 6, 7))


def _print_comparison(result: Comparison, as_json: bool) -> None:
    if as_json:
        _print_json(asdict(result))
        return
    if not result.trained:
        _say(f"{result.name} has random weights: sizes and speeds are real, agreement is that of noise")
    columns = ("FORMAT", "PRECISION", "MB", "BUILD S", "MS AT 1", "IMAGES/S AT 8", "MAX ERROR", "TOP-1", "TOP-5")
    labelled = any(row.check and row.check.artifact_accuracy is not None for row in result.rows)
    rows = [_compared(row, labelled, result) for row in (result.network, *result.rows)]
    _print_table(columns + ("ACCURACY",) * labelled, rows, numbers=range(2, 10))
    for row in result.rows:
        if row.reason:
            print(f"{row.format} {row.precision}: {row.reason}")


def _compared(row: Row, labelled: bool, result: Comparison) -> tuple[Any, ...]:
    def number(value: float | None, form: str) -> str | None:
        return None if value is None else format(value, form)

    check = row.check
    measured = (
        number(row.megabytes, ".1f"),
        number(row.build_seconds, ".1f"),
        number(row.latency_ms, ".2f"),
        number(row.images_per_second, ".1f"),
        check and f"{check.max_abs_error:.1e}",
        check and f"{check.top1_agreement:.2%}",
        check and f"{check.top5_agreement:.2%}",
    )
    known = [r.check.network_accuracy for r in result.rows if r.check]
    accuracy = check.artifact_accuracy if check else known[0] if row is result.network and known else None
    return (row.format, row.precision, *measured, *((number(accuracy, ".2%"),) * labelled))


def _print_table(columns: tuple[str, ...], rows: list[tuple[Any, ...]], numbers: Any = ()) -> None:
    cells = [columns, *(tuple("-" if value is None else str(value) for value in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        aligned = [c.rjust(w) if i in numbers else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(aligned).rstrip())


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def _say(message: str) -> None:
    print(f"build-repo: {message}", file=sys.stderr, flush=True)


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # scripts start us with it ignored, behind a `&`
    signal.signal(signal.SIGTERM, _end)  # as an exception, so that staged files and servers are cleaned up
    try:
        app()
    except BuilderError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
