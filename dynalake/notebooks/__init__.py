"""The notebooks, for their readers: copied to a folder of his own, and opened where Jupyter is installed.

An installed dynalake has them beside this file; in a checkout they stand in `notebooks/`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from dynalake.errors import UserError
from lake.contract.files import shared_mode, write_bytes, write_text

HERE: Final = Path(__file__).parent
_INSTALLED: Final = HERE / "stories"
_CHECKOUT: Final = HERE.parent.parent / "notebooks"
_LEDGER: Final = ".dynalake-notebooks"

Done = Literal["copied", "unchanged", "renewed", "kept"]


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of one notebook.

    Attributes:
        name: its file's name.
        done: "copied"; "unchanged", as it is the newest already; "renewed", where the reader had not edited the older
            one; or "kept", where he had.
    """

    name: str
    done: Done


def notebooks() -> list[Path]:
    """The notebooks, in their order."""
    folder = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def copy_notebooks(out: Path, *, overwrite: bool = False) -> list[Copied]:
    """Copy the notebooks to a folder; one that its reader has edited or run stays as it is.

    What was copied is noted in a hidden file there, so that an edited notebook is told from an older one.

    Args:
        out: the folder; made where it is missing.
        overwrite: whether edited ones are replaced too.

    Raises:
        UserError: the folder cannot be written.
    """
    ledger = out / _LEDGER
    try:
        out.mkdir(parents=True, exist_ok=True)
        known = set(ledger.read_text(encoding="utf-8").split()) if ledger.exists() else set()
        copied = []
        for source in notebooks():
            content, target = source.read_bytes(), out / source.name
            done = _what_to_do(target, content, known, overwrite=overwrite)
            if done in ("copied", "renewed"):
                write_bytes(target, content, error=UserError, mode=shared_mode())
            known.add(_digest(content))
            copied.append(Copied(source.name, done))
        write_text(ledger, "\n".join(sorted(known)) + "\n", error=UserError, mode=shared_mode())
    except OSError as error:
        raise UserError(
            f"{out} cannot be written: {error.strerror}", remedy="name another folder with --out"
        ) from None
    return copied


def jupyter_command(out: Path) -> Sequence[str] | None:
    """What opens the first notebook in JupyterLab; None where it is not installed beside dynalake."""
    if importlib.util.find_spec("jupyterlab") is None:
        return None
    return [sys.executable, "-m", "jupyterlab", str(out / notebooks()[0].name)]


def _what_to_do(target: Path, content: bytes, known: set[str], *, overwrite: bool) -> Done:
    if not target.exists():
        return "copied"
    there = target.read_bytes()
    if there == content:
        return "unchanged"
    return "renewed" if overwrite or _digest(there) in known else "kept"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
