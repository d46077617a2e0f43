"""Writing a pipeline into `dynalake.toml` without touching what is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynalake.config import load_config
from dynalake.errors import ConfigError
from lake.contract.files import replacing


def check_is_new(path: Path, name: str) -> None:
    """Refuse a name that the file holds already.

    Raises:
        ConfigError: it does, or the file is not sound.
    """
    if path.exists() and name in load_config(path).pipelines:
        raise ConfigError(
            f"{path}: pipelines.{name} is there already", remedy="edit it, or choose another name"
        )


def side(**settings: str | None) -> dict[str, str]:
    """One side's settings: those that were given."""
    return {name: value for name, value in settings.items() if value is not None}


def add_pipeline(
    path: Path,
    name: str,
    source: Mapping[str, str],
    lake: Mapping[str, str],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Append a pipeline to the file, which is made if it is missing; the file is replaced in one step.

    Args:
        path: the file.
        name: the pipeline's name.
        source: the source side's settings.
        lake: the lake side's.
        more: the pipeline's other settings: texts, numbers, and tables of these.

    Raises:
        ConfigError: the file holds a pipeline of this name already, is not sound, or cannot be written.
    """
    # A JSON string is a TOML basic string, and the name was checked to be a bare key.
    settings = {"source": source, "lake": lake, **(more or {})}
    lines = "".join(f"{key} = {_value(value)}\n" for key, value in settings.items())
    # Nobody else may add a pipeline between the reading of the file and its replacement.
    with replacing(path, error=ConfigError, exclusive=ConfigError) as place:
        before = ""
        if path.exists():
            check_is_new(path, name)
            before = path.read_text(encoding="utf-8").rstrip("\n") + "\n\n"
        place.file.write_text(f"{before}[pipelines.{name}]\n{lines}", encoding="utf-8")


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_value(each)}' for key, each in value.items())} }}"
    return json.dumps(value)
