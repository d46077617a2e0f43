"""What releases and audits use: pinned actions, a linted Dockerfile, bills of materials, and lock files with hashes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.environments import LOCKS, ROOT, UnavailableError, environment, unavailable
from tests.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def tools(pytestconfig: pytest.Config) -> Path:
    """The folder of the release tools' commands."""
    assert pytestconfig.cache is not None
    try:
        return environment("release", pytestconfig.cache.mkdir("release")).parent
    except UnavailableError as error:
        unavailable(str(error))


def run(tools: Path, *words: str) -> str:
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_dockerfile_has_no_findings(tools: Path) -> None:
    assert run(tools, "hadolint", "Dockerfile") == ""


def test_the_workflows_have_no_findings(tools: Path) -> None:
    run(tools, "zizmor", "--offline", "--quiet", ".github/workflows")


def test_a_bill_of_materials_names_what_the_function_contains(tools: Path, tmp_path: Path) -> None:
    run(tools, "scripts/sbom", str(tmp_path))
    document = json.loads((tmp_path / "dynalake-lambda.cdx.json").read_text())
    locked = set(re.findall(r"^([\w.-]+)==", (LOCKS / "lambda.txt").read_text(), re.MULTILINE))
    assert {part["name"] for part in document["components"]} == locked
    assert document["bomFormat"] == "CycloneDX"


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.stem)
def test_a_lock_file_has_a_hash_for_each_package_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    packages = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert packages
    assert all("--hash=sha256:" in package for package in packages)
    assert "://" not in text


def test_every_lock_file_has_its_line_in_the_script_that_makes_it() -> None:
    made = set(re.findall(r"^lock (\w+)", (ROOT / "scripts" / "lock").read_text(), re.MULTILINE))
    assert made == {lock.stem for lock in LOCKS.glob("*.txt")}
