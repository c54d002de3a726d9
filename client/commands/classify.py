"""repo-client classify"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from client.commands.options import Concurrency, Connection, Json, Model, Top, connects
from client.commands.output import print_error, print_json
from client.errors import ClientError


@connects
def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMAGE...", show_default=False)],
    connection: Connection,
    model: Model = None,
    top: Top = 5,
    concurrency: Concurrency = 8,
    as_json: Json = False,
) -> None:
    """Classify image files."""
    failed: ClientError | None = None
    with connection.client() as client:
        for result in client.classify_many(images, model, top, concurrency):
            failed = failed or result.error
            if as_json:
                print_json(_record(result))
            elif result.error:
                print_error(_error_line(result))
            else:
                _print_predictions(result)
    if failed:
        raise typer.Exit(failed.exit_code)


def _error_line(result: Any) -> str:
    """The image and what became of it; errors about a local file name it themselves."""
    message = str(result.error)
    return message if message.startswith(f"{result.image}:") else f"{result.image}: {message}"


def _print_predictions(result: Any) -> None:
    print(result.image)
    for prediction in result.predictions:
        print(f"  {prediction.probability:8.4%}  {prediction.label}")


def _record(result: Any) -> dict[str, Any]:
    record: dict[str, Any] = {"image": str(result.image)}
    if result.error:
        return record | {"error": {"type": type(result.error).__name__, "message": str(result.error)}}
    return record | {"predictions": [asdict(prediction) for prediction in result.predictions]}
