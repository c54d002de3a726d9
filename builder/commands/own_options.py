"""Options that a command does not spell itself: those that the modules of a registry bring, such as launchers.

A module declares them as the fields of a dataclass, with metadata. They are looked up when the command is run or asked
for its help, not before: what the modules import takes longer than all other commands' help together.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from builder.errors import BuilderError

OPTIONS, GIVEN = "builder.own_options", "builder.given_own_options"
Models = Mapping[str, type[Any]]
"""What each module of a registry declares, by its name there; the first is the one that is chosen by default."""


@dataclass(frozen=True)
class Selection:
    """How an option of a command selects one of a registry's modules."""

    selector: str
    """The option's name, such as `launcher`."""
    help: str
    """Help of that option; the modules' names follow it."""
    models: Callable[[], Models]
    error: type[BuilderError]
    """What a wrong selection raises."""


def command(selection: Selection) -> type[TyperCommand]:
    """The class of a command that takes the selector and the modules' options, too; `chosen` gives it what they say."""

    class Command(TyperCommand):
        def get_params(self, ctx: Any) -> list[Any]:
            *declared, asks_for_help = super().get_params(ctx)
            return [*declared, *_options(ctx, selection), asks_for_help]

        def invoke(self, ctx: Any) -> Any:
            """The command's function does not know them by name, so they travel in the context."""
            ctx.meta[GIVEN] = {option.name: ctx.params.pop(option.name) for option in _options(ctx, selection)}
            return super().invoke(ctx)

    return Command


def chosen(context: typer.Context, selection: Selection) -> tuple[str, Any]:
    """The module's name, and what was given of its options. Raises the selection's error, for those of others, too."""
    models = selection.models()
    given = {key: value for key, value in context.meta[GIVEN].items() if value is not None}
    name = given.pop(selection.selector, next(iter(models)))
    if name not in models:
        raise selection.error(f"there is no {selection.selector} {name!r}; choose {', '.join(models)}")
    for key in given:
        if name not in _owners(models)[key]:
            owner = _owners(models)[key][0]
            raise selection.error(f"--{_spelt(key)} is for --{selection.selector} {owner}; add that, or leave it out")
    return name, models[name](**given)


def _options(context: Any, selection: Selection) -> list[Any]:
    """Typer's parameters, the same objects however often they are asked for: it tells them apart by identity."""
    if OPTIONS not in context.meta:
        context.meta[OPTIONS] = _parameters(_annotations(selection))
    found: list[Any] = context.meta[OPTIONS]
    return found


def _parameters(annotations: dict[str, Any]) -> list[Any]:
    """Typer's parameters of a function that has these annotated keywords."""

    def function(**_: Any) -> None:
        pass

    keyword = inspect.Parameter.KEYWORD_ONLY
    keywords = [inspect.Parameter(key, keyword, default=None, annotation=kind) for key, kind in annotations.items()]
    function.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    function.__annotations__ = annotations
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return list(typer.main.get_command(app).params)


def _annotations(selection: Selection) -> dict[str, Any]:
    """Of the selector, and of the fields of all models; a field of several is one option, as the first declares it."""
    models = selection.models()
    names = f"{selection.help}: {', '.join(models)}. Default: {next(iter(models))}."
    found: dict[str, Any] = {selection.selector: Annotated[str | None, typer.Option(help=names, show_default=False)]}
    for key, owners in _owners(models).items():
        model = models[owners[0]]
        (field,) = (each for each in fields(model) if each.name == key)
        found[key] = _annotation(field, get_type_hints(model)[key], owners)
    return found


def _annotation(field: Field[Any], kind: Any, owners: list[str]) -> Any:
    """None is what was not given, whatever the field's default is: only what was given is another module's mistake."""
    told = field.metadata
    option = typer.Option(
        f"--{_spelt(field.name)}",
        *([f"-{told['letter']}"] if "letter" in told else []),
        help=f"{', '.join(owners)}: {told['help']}",
        metavar=told.get("metavar"),
        min=told.get("min"),
        show_default=False,
    )
    return Annotated[kind | None, option]


def _owners(models: Models) -> dict[str, list[str]]:
    """The names of the modules that have a field, by field."""
    owners: dict[str, list[str]] = {}
    for name, model in models.items():
        for field in fields(model):
            owners.setdefault(field.name, []).append(name)
    return owners


def _spelt(key: str) -> str:
    return key.replace("_", "-")
