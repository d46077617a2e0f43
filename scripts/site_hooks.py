"""For `mkdocs build`: the order of the pages, and the command line's reference, made from the commands themselves."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from dynalake.cli.app import app

REFERENCE = "cli.md"
SECTIONS = {
    "Begin": ["index.md", "quickstart.md", "onboarding.md", "deployment.md"],
    "Use": ["snapshots.md", "exports.md", "queries.md", "checks.md"],
    "Tools": [
        "jupyter.md",
        "duckdb.md",
        "pandas.md",
        "tableau.md",
        "emr.md",
        "athena.md",
        "alation.md",
        "dbt.md",
    ],
    "Operate": ["recovery.md", "scheduling.md", "runbooks/index.md"],
    "Understand": ["design.md", "architecture.md", "invariants.md", "security.md", "limits.md", "faq.md"],
    "Reference": [REFERENCE, "configuration.md", "types.md"],
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Order the pages; one that no section names stands under "More"."""
    folder = Path(config.docs_dir)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")} | {REFERENCE}
    runbooks = sorted(page for page in there if page.startswith("runbooks/") and page != "runbooks/index.md")
    named = {page for pages in SECTIONS.values() for page in pages} | set(runbooks)
    nav: list[Any] = []
    for title, pages in SECTIONS.items():
        entries: list[Any] = [page for page in pages if page in there]
        if title == "Operate":
            entries.append({"Runbook of each alarm": runbooks})
        nav.append({title: entries})
    more = sorted(there - named)
    config.nav = [*nav, {"More": more}] if more else nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the command line's reference."""
    files.append(File.generated(config, REFERENCE, content=reference()))
    return files


def reference() -> str:
    """The command line's reference, in Markdown."""
    command: Any = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "Made from the commands themselves: `dynalake COMMAND --help` says the same.",
        "",
    ]
    for name, each in command.commands.items():
        lines += _command(name, each)
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [each for each in command.params if not _is_option(each)]
    words = [each.metavar or each.name.upper() for each in arguments]
    yield f"## {name}"
    yield ""
    yield "```text"
    yield " ".join(["dynalake", name, *words, "[OPTIONS]"])
    yield "```"
    yield ""
    yield inspect.cleandoc(command.help or "")
    yield ""
    yield "| argument or option | what | default |"
    yield "| --- | --- | --- |"
    for parameter in command.params:
        text = " ".join((parameter.help or "").split())
        yield f"| {_names(parameter)} | {_cell(text)} | {_default(parameter)} |"
    yield ""


def _is_option(parameter: Any) -> bool:
    return bool(parameter.opts[0].startswith("-"))


def _names(parameter: Any) -> str:
    if not _is_option(parameter):
        return f"`{_cell(parameter.metavar or parameter.name.upper())}`"
    names = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag else f"{names} `{_cell(parameter.metavar or _kind(parameter))}`"


def _kind(parameter: Any) -> str:
    """What a value looks like: the words that there are to choose from, or the name of its type."""
    annotation = parameter.type_descriptor.annotation
    choices = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(map(str, choices))
    return str(getattr(annotation, "__name__", annotation)).upper()


def _default(parameter: Any) -> str:
    if parameter.required:
        return "needed"
    if parameter.default in (None, False) or callable(parameter.default):
        return ""
    return f"`{parameter.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
