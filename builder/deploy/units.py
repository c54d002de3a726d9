"""How systemd writes values: of unit files (systemd.syntax(7), systemd.service(5)), and of environment files.

All are refused that no quoting brings through: raises DeployError.
"""

from __future__ import annotations

from pathlib import Path

from builder.errors import DeployError

# What systemd takes in no path of a program; a percent sign begins a specifier, and is doubled.
NOT_IN_PROGRAMS = "\"'\\"
ESCAPED_IN_FILES = '"\\`$'


def word(value: str | Path) -> str:
    """One of several values of a setting, as one word."""
    text = _checked(value)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def bound(path: Path) -> str:
    """A source of BindReadOnlyPaths=, whose destination would come after a colon."""
    return word(path).replace(":", "\\:")


def program(path: Path) -> str:
    """What ExecStart= begins with."""
    text = _checked(path)
    if any(character in NOT_IN_PROGRAMS for character in text):
        raise DeployError(
            f"systemd starts no program whose path has quotes or backslashes, such as {text!a}; make the virtual "
            "environment elsewhere, and name its folder of programs with --prefix"
        )
    return f'"{text.replace("%", "%%")}"'


def rest(value: str | Path) -> str:
    """The last value of a line, which is not unquoted, such as the path of LoadCredential=."""
    text = _checked(value)
    if text != text.strip() or text.endswith("\\"):
        raise DeployError(f"{text!a} begins or ends with what systemd would drop there; give it another name")
    return text.replace("%", "%%")


def variable(name: str, value: str | int | Path) -> str:
    """A line of an EnvironmentFile=, which a shell reads as the same."""
    text = "".join(f"\\{c}" if c in ESCAPED_IN_FILES else c for c in _checked(value))
    return f'{name}="{text}"'


def _checked(value: str | int | Path) -> str:
    text = str(value)
    if not text or not text.isprintable() or _lone(text):
        raise DeployError(
            f"{text!a} cannot stand in a file of systemd's: it is empty, or has characters that are not "
            "printed; give it another name"
        )
    return text


def _lone(text: str) -> bool:
    """Whether it is no Unicode text, as file names need not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
