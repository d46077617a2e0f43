"""Imports point one way, as the README says; this reads every import statement, those inside functions too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "lake": set(),
    "queries": {"lake"},
    "expectations": {"lake", "queries"},
    "ingest": {"lake"},
    "dynalake": {"lake", "queries", "expectations", "ingest"},
}
OF_LAKE_FOR_INGEST = ("lake.contract", "lake.errors")


def imported_modules(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def breaches(package: str, modules: set[str]) -> set[str]:
    allowed = MAY_IMPORT[package] | {package}
    wrong = {name for name in modules if name.split(".")[0] in MAY_IMPORT.keys() - allowed}
    if package == "ingest":
        wrong |= {
            name
            for name in modules
            if name.split(".")[0] == "lake" and not name.startswith(OF_LAKE_FOR_INGEST)
        }
    return wrong


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for name in breaches(package, imported_modules(file.read_text(encoding="utf-8")))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("package", "statement"),
    [
        ("lake", "import queries.run"),
        ("queries", "from expectations import parity"),
        ("ingest", "from lake.snapshot import build_snapshot"),
        ("ingest", "def f():\n    from lake import catalogue"),
        ("expectations", "import ingest.policy"),
    ],
)
def test_a_breach_is_noticed(package: str, statement: str) -> None:
    assert breaches(package, imported_modules(statement))


def test_only_the_front_door_imports_the_command_line_libraries() -> None:
    for package in MAY_IMPORT.keys() - {"dynalake"}:
        for file in (ROOT / package).rglob("*.py"):
            libraries = {name.split(".")[0] for name in imported_modules(file.read_text(encoding="utf-8"))}
            assert not libraries & {"typer", "rich", "pydantic", "moto"}, file
