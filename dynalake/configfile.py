"""Writing a pipeline into `dynalake.toml` without touching what is there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from dynalake.config import load_config
from dynalake.errors import ConfigError


def side(**settings: str | None) -> dict[str, str]:
    """One side's settings: those that were given."""
    return {name: value for name, value in settings.items() if value is not None}


def add_pipeline(path: Path, name: str, source: Mapping[str, str], lake: Mapping[str, str]) -> None:
    """Append a pipeline to the file, which is made if it is missing; the file is replaced in one step.

    Raises:
        ConfigError: the file holds a pipeline of this name already, is not sound, or cannot be written.
    """
    before = ""
    if path.exists():
        if name in load_config(path).pipelines:
            raise ConfigError(f"{path}: pipelines.{name} is there already; edit it, or choose another name")
        before = path.read_text(encoding="utf-8").rstrip("\n") + "\n\n"
    # A JSON string is a TOML basic string, and the name was checked to be a bare key.
    text = f"{before}[pipelines.{name}]\nsource = {_inline(source)}\nlake = {_inline(lake)}\n"
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None


def _inline(settings: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    return f"{{ {pairs} }}"
