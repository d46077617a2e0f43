"""For `mkdocs build`: the order of the pages, the command line's reference, made from the commands, and the notebooks.

The notebooks' pages are made from those in the folder that DYNALAKE_EXECUTED_NOTEBOOKS names, which `scripts/docs` has
run; without it from notebooks/, where they have no outputs.
"""

from __future__ import annotations

import inspect
import os
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from dynalake.cli.app import app
from dynalake.notebooks import notebooks

REFERENCE = "cli.md"
STORIES = "notebooks/"
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PAGE = """\
{%- extends 'markdown/index.md.j2' -%}
{%- block stream -%}
{{ fenced(output.text) }}
{%- endblock stream -%}
{%- block data_text scoped -%}
{{ fenced(output.data['text/plain']) }}
{%- endblock data_text -%}
{%- block traceback_line -%}
{{ fenced(line) }}
{%- endblock traceback_line -%}
{%- block data_png -%}
![{{ cell.source | title_of }}]({{ output.metadata.filenames['image/png'] }})
{%- endblock data_png -%}
{%- macro fenced(text) %}

```text
{{ text | strip_ansi | trim }}
```

{% endmacro -%}
"""
SECTIONS = {
    "Begin": ["index.md", "quickstart.md", "onboarding.md", "deployment.md"],
    "Use": ["snapshots.md", "exports.md", "queries.md", "checks.md"],
    "Notebooks": [STORIES],
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
    stories = [f"{STORIES}{path.stem}.md" for path in notebooks()]
    runbooks = sorted(page for page in there if page.startswith("runbooks/") and page != "runbooks/index.md")
    named = {page for pages in SECTIONS.values() for page in pages} | set(runbooks)
    nav: list[Any] = []
    for title, pages in SECTIONS.items():
        entries: list[Any] = [page for page in pages if page in there]
        if STORIES in pages:
            entries += stories
        if title == "Operate":
            entries.append({"Runbook of each alarm": runbooks})
        nav.append({title: entries})
    more = sorted(there - named)
    config.nav = [*nav, {"More": more}] if more else nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the command line's reference, and the notebooks with their pictures."""
    files.append(File.generated(config, REFERENCE, content=reference()))
    folder = Path(os.environ.get("DYNALAKE_EXECUTED_NOTEBOOKS") or NOTEBOOKS)
    for notebook in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        text, pictures = story(notebook)
        files.append(File.generated(config, f"{STORIES}{notebook.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{STORIES}{name}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Have a link to a notebook, as it leads somewhere in the repository too, lead to its page."""
    return re.sub(r"\]\(\.\./notebooks/(\w+)\.ipynb\)", r"](notebooks/\1.md)", markdown)


def story(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page in Markdown, and its pictures by name."""
    from nbconvert import MarkdownExporter

    exporter: Any = MarkdownExporter(raw_template=PAGE)
    exporter.register_filter("title_of", _title_of)
    text, resources = exporter.from_filename(str(notebook))
    pictures = {f"{notebook.stem}_{name}": content for name, content in resources["outputs"].items()}
    for name in resources["outputs"]:
        text = text.replace(f"]({name})", f"]({notebook.stem}_{name})")
    text = re.sub(
        r"<style scoped>.*?</style>\s*", "", text, flags=re.DOTALL
    )  # of pandas; the site has its own
    text = text.replace('<table border="1" class="dataframe">', "<table>")
    return re.sub(r"(\]\(\d\d_\w+)\.ipynb\)", r"\1.md)", text), pictures


def _title_of(source: str) -> str:
    """What a cell's picture shows, for those who cannot see it."""
    found = re.search(r"title=f?\"([^\"]+)\"", source)
    return re.sub(r"\{[^}]*\}", "…", found[1]) if found else "the cell's picture"


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
