"""Options that a command does not spell itself: those that the modules of a registry bring, such as launchers.

A module declares them as the fields of a pydantic model. They are looked up when the command is run or asked for its
help, not before: what the modules import takes longer than all other commands' help together.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from builder.errors import BuilderError

OPTIONS, GIVEN = "builder.own_options", "builder.given_own_options"
Models = Mapping[str, type[BaseModel]]
"""What each module of the registry declares, by its name there."""


def command(models: Callable[[], Models]) -> type[TyperCommand]:
    """The class of a command that takes the modules' options, too, and gets them by `chosen`."""

    class Command(TyperCommand):
        def get_params(self, ctx: Any) -> list[Any]:
            *declared, asks_for_help = super().get_params(ctx)
            return [*declared, *_options(ctx, models), asks_for_help]

        def invoke(self, ctx: Any) -> Any:
            """The command's function does not know them by name, so they travel in the context."""
            ctx.meta[GIVEN] = {option.name: ctx.params.pop(option.name) for option in _options(ctx, models)}
            return super().invoke(ctx)

    return Command


def chosen(context: typer.Context, name: str, models: Models, selector: str, error: type[BuilderError]) -> BaseModel:
    """What was given, as the model of the module that was chosen by the option `selector`.

    Raises `error` for an option that only other modules have.
    """
    given = {key: value for key, value in context.meta[GIVEN].items() if value is not None}
    for key in given:
        if key not in models[name].model_fields:
            owner = _owners(models)[key][0]
            raise error(f"--{_spelt(key)} is for {selector} {owner}; add that, or leave it out")
    try:
        return models[name](**given)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        raise error(f"--{_spelt(str(first['loc'][0]))}: {first['msg']}") from None


def _options(context: Any, models: Callable[[], Models]) -> list[Any]:
    """Typer's parameters, the same objects however often they are asked for: it tells them apart by identity."""
    if OPTIONS not in context.meta:
        context.meta[OPTIONS] = declared(models())
    found: list[Any] = context.meta[OPTIONS]
    return found


def declared(models: Models) -> list[Any]:
    """Typer's parameters for the fields of all models; a field of several is one option."""
    fields = {key: field for model in models.values() for key, field in model.model_fields.items()}
    owners = _owners(models)
    annotations = {key: _annotation(key, field, owners[key]) for key, field in fields.items()}

    def function(**_: Any) -> None:
        pass

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(key, keyword, default=None, annotation=kind) for key, kind in annotations.items()]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = annotations
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return list(typer.main.get_command(app).params)


def _owners(models: Models) -> dict[str, list[str]]:
    keys = dict.fromkeys(key for model in models.values() for key in model.model_fields)
    return {key: [name for name, model in models.items() if key in model.model_fields] for key in keys}


def _annotation(key: str, field: FieldInfo, owners: list[str]) -> Any:
    """None is what was not given, whatever the field's default is: only that is refused with another module."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    names = [f"--{_spelt(key)}", *([f"-{extra['letter']}"] if "letter" in extra else [])]
    least = next((bound.ge for bound in field.metadata if hasattr(bound, "ge")), None)
    option = typer.Option(
        *names,
        help=f"{', '.join(owners)}: {field.description}",
        metavar=str(extra["metavar"]) if "metavar" in extra else None,
        min=least,
        show_default=False,
    )
    return Annotated[field.annotation | None, option]  # type: ignore[operator]


def _spelt(key: str) -> str:
    return key.replace("_", "-")
