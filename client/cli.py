"""repo-client: parse -> call -> print -> exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from client.errors import ClientError

app = typer.Typer(
    name="repo-client",
    help="Ask a Triton server that serves image classifiers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Url = Annotated[str, typer.Option(help="gRPC address of the server.", metavar="HOST:PORT")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Timeout = Annotated[float, typer.Option(help="Seconds for each request, retries included.", min=0.001)]
Retries = Annotated[int, typer.Option(help="How often a request is sent again while the server is unavailable.", min=0)]


@app.command()
def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMAGE...", show_default=False)],
    model: Annotated[str | None, typer.Option(help="Model to ask. Default: the only classifier there is.")] = None,
    url: Url = "localhost:8001",
    top: Annotated[int, typer.Option(help="How many classes to show.", min=1)] = 5,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.", min=1, max=1024)] = 8,
    timeout: Timeout = 30.0,
    retries: Retries = 3,
    as_json: Json = False,
) -> None:
    """Classify image files."""
    from client.client import Client

    failed: ClientError | None = None
    with Client(url, timeout=timeout, retries=retries) as client:
        results = client.classify_many(images, model, top, concurrency)
        for result in results:
            failed = failed or result.error
            if as_json:
                _print_json(_result_record(result))
            elif result.error:
                _print_error(_error_line(result))
            else:
                _print_predictions(result)
    if failed:
        raise typer.Exit(failed.exit_code)


@app.command()
def models(url: Url = "localhost:8001", timeout: Timeout = 30.0, as_json: Json = False) -> None:
    """Show what is being served."""
    from client.client import Client

    with Client(url, timeout=timeout) as client:
        found = client.models()
    if as_json:
        _print_json([asdict(model) for model in found])
        return
    _print_table(
        ("MODEL", "VERSIONS", "PLATFORM", "MAX BATCH", "INPUTS", "OUTPUTS"),
        [
            (m.name, ",".join(m.versions), m.platform, str(m.max_batch_size), _tensors(m.inputs), _tensors(m.outputs))
            for m in found
        ],
    )


def _tensors(tensors: Iterable[Any]) -> str:
    return " ".join(f"{t.name}:{t.datatype}[{','.join(map(str, t.shape))}]" for t in tensors)


def _error_line(result: Any) -> str:
    """The image and what became of it; errors about a local file name it themselves."""
    message = str(result.error)
    return message if message.startswith(f"{result.image}:") else f"{result.image}: {message}"


def _print_predictions(result: Any) -> None:
    print(result.image)
    for prediction in result.predictions:
        print(f"  {prediction.probability:8.4%}  {prediction.label}")


def _result_record(result: Any) -> dict[str, Any]:
    record: dict[str, Any] = {"image": str(result.image)}
    if result.error:
        return record | {"error": {"type": type(result.error).__name__, "message": str(result.error)}}
    return record | {"predictions": [asdict(prediction) for prediction in result.predictions]}


def _print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def _print_error(message: str) -> None:
    print(f"repo-client: {message}", file=sys.stderr)


def main() -> None:
    try:
        app()
    except ClientError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
