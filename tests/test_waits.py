"""How tests wait: a process is killed before it is waited for, and nothing is waited for without a bound."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Models of repositories are what is checked; some are no Python on purpose.
TESTS = sorted(path for path in ROOT.glob("tests/**/*.py") if "repositories" not in path.parts)
OTHERS = [*sorted(ROOT.glob("examples/**/*.py")), *sorted(ROOT.glob("benchmarks/**/*.py"))]
STARTS = "processes.py"
"""The one file that makes a Popen."""
WAITS = {"wait", "communicate", "join", "get", "result"}
"""Methods that wait for ever unless they are told how long; `result`, `get` and `join` of others have arguments."""


def sins(tree: ast.AST, of_tests: bool) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                if called(item.context_expr) == "Popen":
                    yield f"{node.lineno}: `with Popen` waits before it kills; use processes.started"
        if isinstance(node, ast.Call):
            name = called(node)
            if name == "Popen" and of_tests:
                yield f"{node.lineno}: use processes.started, which kills"
            if of_tests and name in ("run", "check_output", "check_call", "call") and whose(node) == "subprocess":
                if not has_timeout(node):
                    yield f"{node.lineno}: subprocess.{name} without a timeout"
            elif name in WAITS and isinstance(node.func, ast.Attribute) and endless(node):
                yield f"{node.lineno}: .{name}() without a timeout"


def called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def whose(call: ast.Call) -> str:
    return getattr(call.func.value, "id", "") if isinstance(call.func, ast.Attribute) else ""


def has_timeout(call: ast.Call) -> bool:
    return any(word.arg in ("timeout", None) for word in call.keywords)


def endless(call: ast.Call) -> bool:
    """`communicate(input)` waits for ever, too."""
    return not has_timeout(call) and (not call.args or called(call) == "communicate")


@pytest.mark.parametrize("file", [*TESTS, *OTHERS], ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_waits_for_ever(file: Path) -> None:
    if file.name != STARTS:
        assert not list(sins(ast.parse(file.read_text(encoding="utf-8")), file in TESTS))


@pytest.mark.parametrize(
    "text",
    [
        "with subprocess.Popen(x) as p: pass",
        "p = subprocess.Popen(x)",
        "p.wait()",
        "p.communicate(b'')",
        "thread.join()",
        "queue.get()",
        "future.result()",
        "subprocess.run(x, check=True)",
    ],
)
def test_the_rule_sees(text: str) -> None:
    assert list(sins(ast.parse(text), True))


@pytest.mark.parametrize(
    "text", ["p.wait(5)", "p.communicate(timeout=5)", "', '.join(x)", "d.get('x')", "subprocess.run(x, timeout=5)"]
)
def test_the_rule_passes(text: str) -> None:
    assert not list(sins(ast.parse(text), True))
