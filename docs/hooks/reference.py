"""The reference, as Markdown: what is written here is how it is shown; what is shown comes from the registries."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import registries

BELOW, BAR = "#/$defs/", "&#124;"
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
MANY, FEW = 12, 3
"""Of more names than MANY, a cell shows FEW: a page of their own has them all."""


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    return "" if value is None else " ".join(str(value).split()).replace("|", BAR)


def code(value: object) -> str:
    """In a table, where backticks do not keep a bar from ending the cell."""
    written = html.escape(str(value), quote=False)
    return f"<code>{written.replace('|', BAR)}</code>" if "|" in written else f"`{value}`"


def text(words: str) -> str:
    """As it is, though Markdown means something by it; what is in backticks is code already."""
    parts = words.split("`")
    return "`".join(
        re.sub(r"([*_<\[\]])", r"\\\1", part) if not number % 2 else part for number, part in enumerate(parts)
    )


# --- files ---


def keys(kind: str) -> str:
    """Every key of a file: of the whole, and then group by group."""
    found = registries.schemas()[kind]
    schema: dict[str, Any] = _inlined(found, found["$defs"])
    entries = _entries(schema)
    parts = [f"{_titled(title)}{_sentence(entry)}{_table_of(entry)}" for title, entry in entries.items()]
    parts += [f"{_titled(title)}{_sentence(group)}{_table_of(group)}" for title, group in _every_group(schema, entries)]
    return "\n\n".join(parts)


def _titled(title: str) -> str:
    return f"## {title}\n\n" if title else ""


def _every_group(schema: dict[str, Any], entries: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each group once; one that has another form in another task is told apart by that."""
    seen: dict[str, dict[str, Any]] = {}
    for title, entry in entries.items():
        for way, group in _groups(schema, entry):
            if seen.get(way, group) != group:
                way = f"{way} ({title})"
            if way not in seen:
                yield way, group
            seen[way] = group


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """With what is defined elsewhere in its place, unless it is a group of keys."""
    if isinstance(node, list):
        return [_inlined(part, definitions) for part in node]
    if not isinstance(node, dict):
        return node
    name = node.get("$ref", "").removeprefix(BELOW)
    rest = {key: _inlined(value, definitions) for key, value in node.items()}
    if not name or "properties" in definitions[name]:
        return rest
    return _inlined(definitions[name], definitions) | {key: value for key, value in rest.items() if key != "$ref"}


def _entries(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a user writes most of: an entry of models.yaml, for each task; the file itself elsewhere."""
    if "Entry" not in schema["$defs"]:
        return {"": schema}
    choices = schema["$defs"]["Entry"]["allOf"]
    named = {choice["if"]["properties"]["task"]["const"]: choice["then"]["$ref"] for choice in choices}
    return {f"task: {task}": schema["$defs"][name.removeprefix(BELOW)] for task, name in named.items()}


def _groups(schema: dict[str, Any], node: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The groups of keys below an object, by the way to them."""
    for key, value in node["properties"].items():
        for way, name in _references(value, f"{above}{key}"):
            yield way, schema["$defs"][name]
            yield from _groups(schema, schema["$defs"][name], f"{way}.")


def _references(value: dict[str, Any], way: str) -> Iterator[tuple[str, str]]:
    """Also of the elements of lists, and of what stands under names that the user chooses."""
    if "$ref" in value:
        yield way, value["$ref"].removeprefix(BELOW)
    for option in _options(value):
        yield from _references(option, way)
    for key, mark in (("items", "[]"), ("additionalProperties", ".NAME")):
        if isinstance(value.get(key), dict):
            yield from _references(value[key], way + mark)


def _options(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [option for word in ("anyOf", "oneOf", "allOf") for option in value.get(word, ())]


def _sentence(group: dict[str, Any]) -> str:
    return f"{text(group['description'])}\n\n" if "description" in group else ""


def _table_of(node: dict[str, Any]) -> str:
    required = node.get("required", ())
    rows = [
        (code(key), "; ".join(_kinds(value)), _default(value, key in required), text(value.get("description", "")))
        for key, value in node["properties"].items()
    ]
    return table(("key", "value", "default", "meaning"), rows)


def _default(value: dict[str, Any], required: bool) -> str:
    if required:
        return "none: it must be given"
    if "default" not in value:
        return ""
    return code(str(value["default"]).lower() if isinstance(value["default"], bool) else value["default"])


def _kinds(value: dict[str, Any]) -> list[str]:
    """What may stand there, each way once."""
    if "$ref" in value:
        return ["a group of keys, see below"]
    if "enum" in value:
        return [_choice(value["enum"])]
    if "const" in value:
        return [code(str(value["const"]).lower() if isinstance(value["const"], bool) else value["const"])]
    options = _options(value)
    if options:  # before `type`, which is that of all of them
        return list(dict.fromkeys(kind for option in options for kind in _kinds(option)))
    if "pattern" in value:
        return [f"text with `{value['pattern']}` in it"]
    return [_plain(value)] if "type" in value else []


def _choice(values: list[object]) -> str:
    if len(values) <= MANY:
        return ", ".join(map(code, values))
    return f"one of {len(values)} names, such as {', '.join(map(code, values[:FEW]))}"


def _plain(value: dict[str, Any]) -> str:
    names = {"null": "`null`", "object": "keys and values", "boolean": "`true` or `false`", "string": "text"}
    if value["type"] == "array":
        return _list(value)
    if isinstance(value.get("additionalProperties"), dict):
        return f"names, each with {' or '.join(_kinds(value['additionalProperties']))}"
    bounds = ", ".join(f"{words} {value[name]}" for name, words in BOUNDS.items() if name in value)
    return f"{names.get(value['type'], value['type'])}{f', {bounds}' if bounds else ''}"


def _list(value: dict[str, Any]) -> str:
    least, most = value.get("minItems"), value.get("maxItems")
    count = f" of {least}" if least is not None and least == most else ""
    return f"a list{count} (each: {' or '.join(_kinds(value.get('items', {}))) or 'any value'})"


# --- programs ---


def commands(program: str) -> str:
    """Every command, with its arguments and options."""
    return "\n\n".join(_command(path, command) for path, command in leaves(program, registries.programs()[program]))


def leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The commands that do something, by all the words that call them."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from leaves(f"{path} {name}", below)


def _command(path: str, command: Any) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    records = filter(None, (parameter.get_help_record(context) for parameter in command.params))
    rows = [(code(name), text(meaning)) for name, meaning in records]
    heading = f"## {path}\n\n{text(command.help or '')}\n\n```text\n{usage}\n```"
    return f"{heading}\n\n{table(('argument or option', 'meaning'), rows)}" if rows else heading


# --- tables ---


def exit_codes(program: str) -> str:
    rows = [(number, code(name), text(meaning)) for number, name, meaning in registries.exit_codes()[program]]
    return table(("code", "error", "meaning"), rows)


def formats() -> str:
    """Every format with what it has on each device."""
    exporters = registries.exporters()
    devices = list(dict.fromkeys(device for one in exporters.values() for device in one.PRECISIONS))
    rows = [
        (
            code(name),
            code(one.BACKEND) + (f", platform {code(one.PLATFORM)}" if one.PLATFORM else ""),
            code(one.FILENAME),
            *(", ".join(one.PRECISIONS.get(device, ())) for device in devices),
            "yes" if one.PER_GPU else "no",
            ", ".join(one.VERSIONED),
        )
        for name, one in exporters.items()
    ]
    columns = ("format", "Triton's backend", "file", *(f"on {device}" for device in devices))
    return table((*columns, "a file for each kind of GPU", "versions that must fit"), rows)


def limits() -> str:
    """What an artifact may differ by, by precision."""
    found = registries.limits()
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    rows = [(precision, *(_number(values.get(name)) for name in names)) for precision, values in found.items()]
    return table(("precision", *map(code, names)), rows)


SUBJECTS = {
    "TMR0": "What is in a folder, and the text of a config",
    "TMR1": "Names, platforms, backends, versions",
    "TMR2": "Inputs and outputs",
    "TMR3": "Instances, rate limits, optimisation",
    "TMR4": "Batching and sequences",
    "TMR5": "Warm-up, cache, transactions",
    "TMR6": "Ensembles, and several repositories",
    "TMR7": "What each backend demands",
    "TMR8": "Artifacts and configs",
    "TMR9": "Beyond the server, releases, and the server's own word",
}


def codes() -> str:
    """Every code, by its subject; each is an anchor."""
    rules, parts = registries.codes(), []
    for begin, subject in SUBJECTS.items():
        rows = [
            (
                f'<span id="{rule.code.lower()}"></span>`{rule.code}` {rule.name}',
                rule.level,
                f"{text(rule.summary)} {text(rule.why)}",
                text(rule.mend),
                text(rule.source),
            )
            for rule in rules
            if rule.code.startswith(begin)
        ]
        if rows:
            heading = table(("code", "level", "what is wrong, and what comes of it", "how to mend it", "source"), rows)
            parts.append(f"## {subject}\n\n{heading}")
    return "\n\n".join(parts)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def networks() -> str:
    """Every network that has a name."""
    found = registries.networks()
    columns = list(found[0])
    rows = [[code(fact["name"]), *(_figure(fact[name]) for name in columns[1:])] for fact in found]
    return table((name.replace("_", " ") for name in columns), rows)


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and value > 9999 else cell(value)


def label_sets() -> str:
    """By name, with what the code says of each."""
    rows = ((code(name), text(make.__doc__ or "")) for name, make in registries.label_sets().items())
    return table(("labels", "meaning"), rows)


def data_sets() -> str:
    return ", ".join(map(code, registries.data_sets()))


MADE: Mapping[str, Callable[..., str]] = {
    "keys": keys,
    "commands": commands,
    "exit-codes": exit_codes,
    "formats": formats,
    "limits": limits,
    "codes": codes,
    "networks": networks,
    "label-sets": label_sets,
    "data-sets": data_sets,
}
"""What `<!-- made: NAME ARGUMENT -->` in a page becomes."""
