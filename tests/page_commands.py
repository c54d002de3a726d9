"""Lines of a shell in the pages: which programs they call, and whether those take what they are given."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from builder.cli import app as build_repo
from client.cli import app as repo_client

ROOT = Path(__file__).parent.parent
PROGRAMS = {"build-repo": build_repo, "repo-client": repo_client}
CONTROL = set("();<>|&")
VARIABLE = re.compile(r"[A-Za-z_]\w*=")
SHELLS_OWN = {"cd", "export"}
TREES = ("builder/", "examples/", "benchmarks/", "tests/")
"""Of this repository: what is named there must be there."""


class Wrong(Exception):
    """A command that would fail, whatever the machine has."""


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a block, without redirections and the variables before them."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        yield from _simple(list(lexer))


def _simple(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    skip = False
    for word in [*words, ";"]:
        control = set(word) <= CONTROL and word != ""
        if control and not set(word) & set("<>"):
            if command:
                yield command
            command = []
        elif control or skip or (not command and VARIABLE.match(word)):
            skip = control  # what a redirection names is no argument
        else:
            command.append(word)


def check(command: list[str]) -> bool:
    """Whether the command is one that can be looked at here. Raises Wrong."""
    name, *arguments = command
    lost = [word for word in arguments if word.startswith(TREES) and not (ROOT / word).exists()]
    if lost:
        raise Wrong(f"there is no {lost[0]}")
    if name in PROGRAMS:
        parse(name, arguments)
    elif name in OTHERS:
        OTHERS[name](arguments)
    elif arguments[-1:] and "-m" in arguments and "builder" in arguments:  # torchrun
        parse("build-repo", arguments[arguments.index("builder") + 1 :])
        return False
    elif "build-repo" in arguments or "repo-client" in arguments:
        raise Wrong(f"{name} hides a command of this project: {' '.join(command)}")
    else:
        return name in SHELLS_OWN
    return True


def parse(program: str, arguments: list[str]) -> None:
    """By the program itself, whose commands then do nothing."""
    command = get_command(PROGRAMS[program])
    for leaf in leaves(command):
        leaf.callback = lambda **_: None
    try:
        command.main(arguments, prog_name=program, standalone_mode=False)
    except Exception as error:  # the classes of click's errors are where the installed typer has them
        told = error.format_message() if hasattr(error, "format_message") else error
        raise Wrong(f"{program} {' '.join(arguments)}: {told}") from None


def leaves(command: Any) -> Iterator[Any]:
    if not hasattr(command, "commands"):
        yield command
        return
    for below in command.commands.values():
        yield from leaves(below)


def _make(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"\$[({](\w+)", makefile))
    for argument in arguments:
        name = argument.partition("=")[0]
        if name not in (variables if "=" in argument else targets):
            raise Wrong(f"make has no {argument}")


def _pip(arguments: list[str]) -> None:
    """What is installed is this project, with extras that it has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    verb, *names = arguments
    for name in names:
        found = re.fullmatch(r"(.+?)\[(.+)\]", name)
        asked = set(found[2].split(",")) if found else set()
        own = bool(found) and found[1] in (".", project["name"])
        if verb != "install" or not own or asked - set(project["optional-dependencies"]):
            raise Wrong(f"pip {' '.join(arguments)}")


OTHERS: dict[str, Callable[[list[str]], None]] = {"make": _make, "pip": _pip}
