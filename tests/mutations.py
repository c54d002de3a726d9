"""Configs broken by chance: as messages, field by field, and as texts, token by token; and folders of versions."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from mutation_seeds import HERE, Part, Seed

from builder.check.config import schema

LARGE = {"count": 5, "priority_levels": 6, "max_batch_size": 70, "max_candidate_sequences": 70, "batch_size": 70}
"""Of fields for which the server makes as many things at once, the most that is tried."""
SAME = {"kind": ("KIND_CPU", "KIND_AUTO", "KIND_MODEL")}
"""Of enumerations, what does not depend on the machine's GPUs."""
INTEGERS = (0, -1, 1, 2, 3, 4, 100, -2, 2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
FLOATS = (0.0, -1.0, 1.0, 0.5, 1e30, -1e30, 2.0)
WORDS = ("", "x", "y", "image", "nothing", "x ", "a/b", "../x", "ü", "custom", "ensemble", "INPUT__0", "1", "z" * 300)
LIMITS = {
    "INT32": (-(2**31), 2**31 - 1),
    "UINT32": (0, 2**32 - 1),
    "INT64": (-(2**63), 2**63 - 1),
    "UINT64": (0, 2**64 - 1),
}
TYPES = {getattr(FieldDescriptor, f"TYPE_{name}"): name for name in LIMITS}
VERSIONS = (
    "01",
    "2.tmp",
    "0",
    "-1",
    "v1",
    "1a",
    "+2",
    " 3",
    "4 ",
    "99999999999999999999",
    "9223372036854775807",
    "007",
)
TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|[\w.+-]+|\s+|#.*|.')
SYMBOLS = ("{", "}", "[", "]", ":", ",", ";", "<", ">", '"', "'", "-", "#", "0", "\n")


@dataclass(frozen=True)
class Mutation:
    """A seed that was changed, and how."""

    seed: Seed
    where: tuple[str, ...]
    """Names of the fields that were changed, from the outermost; or "text", "versions"."""
    told: str


def mutated(chance: random.Random, seed: Seed) -> Mutation:
    """Once, mostly; of what is not a message, once in any case."""
    kind = chance.choices((_message, _text, _versions), (70, 22, 8))[0]
    found = kind(chance, seed)
    while kind is _message and chance.random() < 0.15:
        more = kind(chance, found.seed)
        found = Mutation(more.seed, found.where + more.where, f"{found.told}; {more.told}")
    return found


def _changed(chance: random.Random, seed: Seed) -> tuple[str, Part]:
    """Which of its models; an ensemble rather than its steps."""
    ending = next(iter(seed)) if chance.random() < 0.6 else chance.choice(list(seed))
    return ending, seed[ending]


def _versions(chance: random.Random, seed: Seed) -> Mutation:
    ending, part = _changed(chance, seed)
    folders = list(part.folders)
    one = chance.randrange(len(folders))
    new = chance.choice((*VERSIONS, "5", "2", ""))
    if chance.random() < 0.4:
        folders.append(new or "6")
    elif new:
        folders[one] = new
    else:
        del folders[one]
    told = f"{ending or 'model'}: versions {folders}"
    return Mutation({**seed, ending: replace(part, folders=tuple(dict.fromkeys(folders)))}, ("versions",), told)


def _text(chance: random.Random, seed: Seed) -> Mutation:
    ending, part = _changed(chance, seed)
    tokens = TOKEN.findall(part.text) or [" "]
    solid = [number for number, token in enumerate(tokens) if not token.isspace()] or [0]
    one, other = chance.choice(solid), chance.choice(solid)
    told = f"{ending or 'model'}: text, {tokens[one]!r} (number {one})"
    how = chance.choice(("delete", "double", "swap", "copy", "typo", "symbol", "cut", "symbol-in"))
    if how == "delete":
        tokens[one] = ""
    elif how == "double":
        tokens[one] += " " + tokens[one]
    elif how == "swap":
        tokens[one], tokens[other] = tokens[other], tokens[one]
    elif how == "copy":
        tokens[one] = tokens[other]
    elif how == "typo":
        tokens[one] = _typo(chance, tokens[one])
    elif how == "symbol":
        tokens[one] = chance.choice(SYMBOLS)
    elif how == "symbol-in":
        tokens[one] += chance.choice(SYMBOLS)
    elif chance.random() < 0.3:
        del tokens[one:]
    return Mutation({**seed, ending: replace(part, text="".join(tokens))}, ("text",), f"{told} {how}")


def _typo(chance: random.Random, word: str) -> str:
    place = chance.randrange(len(word))
    return chance.choice(
        (
            word[:place] + word[place + 1 :],
            word[:place] + word[place] + word[place:],
            word[:place] + word[place:][:2][::-1] + word[place + 2 :],
            word.swapcase(),
            word[:place] + chance.choice("abcxyz_-. 019\\") + word[place + 1 :],
        )
    )


def _message(chance: random.Random, seed: Seed) -> Mutation:
    ending, part = _changed(chance, seed)
    config = text_format.Parse(part.text, schema().ModelConfig())
    words = tuple(dict.fromkeys(re.findall(r'"([^"]*)"', "".join(each.text for each in seed.values()))))
    hand = _Hand(chance, words)
    places = [place for place in _places(config, ()) if place[0].DESCRIPTOR.fields]
    message, path = chance.choice(places)
    # Fields that are there, rather than those that are not.
    there = [field for field, _ in message.ListFields()]
    field = chance.choice(there if there and chance.random() < 0.75 else message.DESCRIPTOR.fields)
    told = hand.change(message, field)
    where = (*path, field.name)
    changed = replace(part, text=text_format.MessageToString(config))
    return Mutation({**seed, ending: changed}, where, f"{ending or 'model'}: {'.'.join(where)} {told}")


def _places(message: Any, path: tuple[str, ...]) -> Any:
    """Every message in it, itself included, with the names that lead there."""
    yield message, path
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if _is_map(field):
            if field.message_type.fields_by_name["value"].message_type:
                for key in value:
                    yield from _places(value[key], (*path, field.name))
        else:
            for each in value if field.is_repeated else [value]:
                yield from _places(each, (*path, field.name))


def _is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


class _Hand:
    """That changes fields, with words that the seed knows."""

    def __init__(self, chance: random.Random, words: tuple[str, ...]) -> None:
        self._chance, self._words = chance, words

    def change(self, message: Any, field: Any) -> str:
        if _is_map(field):
            return self._change_map(getattr(message, field.name), field)
        if field.is_repeated:
            return self._change_list(getattr(message, field.name), field)
        if self._chance.random() < 0.25 and message.HasField(field.name) if field.has_presence else False:
            message.ClearField(field.name)
            return "cleared"
        if field.message_type:
            message.ClearField(field.name)
            getattr(message, field.name).SetInParent()
            told = self.fill(getattr(message, field.name)) if self._chance.random() < 0.6 else "empty"
            return f"new: {told}"
        value = self.value(field, getattr(message, field.name))
        setattr(message, field.name, value)
        return f"= {value!r}"

    def fill(self, message: Any) -> str:
        """Some of its fields, with anything."""
        fields = message.DESCRIPTOR.fields
        chosen = self._chance.sample(list(fields), min(len(fields), self._chance.randint(1, 3)))
        return ", ".join(f"{field.name} {self.change(message, field)}" for field in chosen)

    def _change_list(self, values: Any, field: Any) -> str:
        how = self._chance.choice(("delete", "double", "swap", "add", "change", "clear") if values else ("add",))
        one = self._chance.randrange(len(values)) if values else 0
        if how == "clear":
            del values[:]
        elif how == "delete":
            del values[one]
        elif how == "swap":
            self._swap(values, one, field)
        elif field.message_type:
            how = self._change_messages(values, one, how)
        elif how == "double":
            values.append(values[one])
        elif how == "add":
            values.append(self.value(field, values[one] if values else None))
        else:
            values[one] = self.value(field, values[one])
        return f"{how} {[*values] if not field.message_type else ''}"

    def _change_messages(self, values: Any, one: int, how: str) -> str:
        if how == "double":
            values.add().CopyFrom(values[one])
            return how
        return f"{how}: {self.fill(values.add() if how == 'add' else values[one])}"

    def _swap(self, values: Any, one: int, field: Any) -> None:
        other = self._chance.randrange(len(values))
        kept = list(values)
        kept[one], kept[other] = kept[other], kept[one]
        copies = [type(each)() for each in kept] if field.message_type else kept
        if field.message_type:
            for copy, each in zip(copies, kept, strict=True):
                copy.CopyFrom(each)
        del values[:]
        values.extend(copies)

    def _change_map(self, values: Any, field: Any) -> str:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        keys = sorted(values)
        how = self._chance.choice(("delete", "rename", "change", "add") if keys else ("add",))
        old = self._chance.choice(keys) if keys else None
        new = old if how == "change" else self.value(key, old)
        if value.message_type:
            if how == "rename" and new != old:
                values[new].CopyFrom(values[old])
            elif how in ("add", "change"):
                self.fill(values[new])
        elif how != "delete":
            values[new] = values[old] if how == "rename" else self.value(value, values[old] if old else "")
        if how == "delete" or (how == "rename" and new != old):
            del values[old]
        return f"{how} {old!r} {new!r}"

    def value(self, field: Any, old: Any) -> Any:
        """Another one, of a field's type."""
        kind = field.type
        if field.enum_type:
            chosen = SAME.get(field.name) if "KIND_CPU" in field.enum_type.values_by_name else None
            names = chosen or list(field.enum_type.values_by_name)
            return field.enum_type.values_by_name[self._chance.choice(names)].number
        if kind == field.TYPE_BOOL:
            return not old
        if kind == field.TYPE_STRING:
            return self._word(old)
        if kind in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
            return self._chance.choice(FLOATS)
        return self._integer(field, old if isinstance(old, int) else 0)

    def _word(self, old: Any) -> str:
        own = (*self._words, *self._words, HERE, f"{HERE}a", *([_typo(self._chance, old)] if old else []))
        return self._chance.choice(own if self._chance.random() < 0.5 else WORDS)

    def _integer(self, field: Any, old: int) -> int:
        low, high = LIMITS[TYPES.get(field.type, "INT64")]
        numbers = [number for number in (*INTEGERS, old + 1, old - 1, old * 2) if low <= number <= high]
        most = LARGE.get(field.name, high)
        return self._chance.choice([number for number in numbers if number <= most])
