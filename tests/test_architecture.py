"""Imports point one way, as the README says; this reads every import statement, those inside functions too."""

from __future__ import annotations

import ast
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

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


# Buckets

CLIENTS_OF_S3 = "ingest/buckets.py"
"""The one place where S3 clients are made: they name the account that a bucket must belong to."""

OTHER_WAYS_TO_S3 = {"s3fs", "fsspec", "s3transfer", "smart_open", "aiobotocore", "awswrangler"}
WITHOUT_AN_OWNER = {"create_bucket"}
"""Operations that have no `ExpectedBucketOwner`; CreateBucket fails where another account has the name."""


def ways_to_s3(source: str) -> set[str]:
    """What reaches S3 without an expected owner: clients, resources and file systems made here."""
    tree = ast.parse(source)
    found = {
        name
        for name in imported_modules(source)
        if name.split(".")[0] in OTHER_WAYS_TO_S3 or name.startswith("pyarrow.fs")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "S3FileSystem":
            found.add(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            words = [*node.args, *(keyword.value for keyword in node.keywords)]
            named = {word.value for word in words if isinstance(word, ast.Constant)}
            if called.endswith(("client", "resource")) and named & {"s3", "s3control"}:
                found.add(called)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {"httpfs"} & set(node.value.lower().split())
    return found


def sources() -> list[Path]:
    return sorted(file for package in MAY_IMPORT for file in (ROOT / package).rglob("*.py"))


def test_every_client_of_s3_names_the_expected_owner() -> None:
    files = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in sources()}
    assert ways_to_s3(files.pop(CLIENTS_OF_S3))
    assert {name: ways for name, text in files.items() if (ways := ways_to_s3(text))} == {}


@pytest.mark.parametrize(
    "statement",
    [
        'session.client("s3")',
        'session.client(service_name="s3", config=config)',
        'boto3.resource("s3")',
        "import s3fs",
        "from fsspec import open",
        "from pyarrow.fs import S3FileSystem",
        "import pyarrow.fs",
        "pa.fs.S3FileSystem()",
        'connection.execute("load httpfs")',
    ],
)
def test_another_way_to_s3_is_noticed(statement: str) -> None:
    assert ways_to_s3(statement)


def test_every_operation_on_a_bucket_can_name_its_owner() -> None:
    """Those that are called anywhere here; a new one that cannot has to be considered."""
    service = botocore.session.get_session().get_service_model("s3")
    operations = {xform_name(name): service.operation_model(name) for name in service.operation_names}
    called = {
        node.func.attr
        for file in sources()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and any(keyword.arg == "Bucket" for keyword in node.keywords)
        and node.func.attr in operations
    }
    assert {"put_object", "get_object", "head_bucket", "upload_part"} <= called
    without = {
        name
        for name in called
        if "ExpectedBucketOwner" not in getattr(operations[name].input_shape, "members", {})
    }
    assert without == WITHOUT_AN_OWNER
