"""The documents say what is so: links lead somewhere, and facts that code holds too are the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lake.types
from dynalake.cli import endings
from dynalake.config import AthenaConfig, HiveConfig, PipelineConfig, SideConfig
from queries.named import named_queries

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    missing = [
        target
        for target in targets
        if not target.startswith("http") and not (document.parent / target).exists()
    ]
    assert not missing


def test_the_type_table_is_the_code_s() -> None:
    stated = [line for line in (lake.types.__doc__ or "").splitlines() if line.startswith("|")]
    written = (ROOT / "docs" / "types.md").read_text(encoding="utf-8").splitlines()
    assert len(stated) > 10
    assert [line for line in written if line.startswith("|")] == stated


def test_every_key_of_the_configuration_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for side in ("source", "lake"):
        for key in PipelineConfig.model_fields[side].annotation.model_fields:  # type: ignore[union-attr]
            assert f"`{side}.{key}`" in text
    for key in PipelineConfig.model_fields.keys() - {"source", "lake"}:
        assert f"`{key}`" in text
    assert SideConfig.model_fields
    for part, model in (("hive", HiveConfig), ("athena", AthenaConfig)):
        for key in model.model_fields:
            assert f"`{part}.{key}`" in text


def test_every_shipped_query_is_documented() -> None:
    text = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
    assert all(f"| `{query.name}` |" in text for query in named_queries())


def test_scripts_that_the_readme_names_are_there_and_run() -> None:
    named = set(re.findall(r"scripts/(\w+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {"demo", "test", "check", "lock", "bench"} <= named
    for name in named:
        assert (ROOT / "scripts" / name).stat().st_mode & 0o111, name


def test_the_exit_codes_are_the_code_s() -> None:
    text = (ROOT / "docs" / "scheduling.md").read_text(encoding="utf-8")
    stated = [line for line in (endings.__doc__ or "").splitlines() if line.startswith("|")]
    assert len(stated) > 6
    assert "\n".join(stated) in text
    for command, stays in endings.STAYS.items():
        no = endings.ANSWERS_NO.get(command)
        assert f"| `{command}` | {no + ' ' if no else ''}| {stays} |" in text
