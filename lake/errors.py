"""What can go wrong in the lake package, as one family; and how a notebook shows an error, of whichever package.

ExplainedError                   base of every package's family
LakeError
├── ContractError          a name, a version or a row breaks the lake table's contract
├── LakeTableError         the lake table or its companions cannot be made or are not as they must be
├── SnapshotError          a snapshot cannot be written, read or rolled forward
│   └── SnapshotBusyError  somebody else is writing it just now
├── DecodeError            bytes that are not DynamoDB JSON, or that no column can hold
└── ExportError            an export's target or format cannot be served
"""

from __future__ import annotations

from typing import Final

_WIDTH: Final = 110
_RED, _PLAIN = "\x1b[31m", "\x1b[39m"


class ExplainedError(Exception):
    """An error whose text says what is wrong and what to do, so a notebook shows that and no traceback.

    IPython asks an exception for `_render_traceback_` before it renders the traceback itself
    (`InteractiveShell.showtraceback`). The traceback is there all the same: `traceback.print_last()`.
    """

    def _render_traceback_(self) -> list[str]:
        import textwrap  # not before: the Lambda's cold start has no use for it

        text = textwrap.fill(f"{type(self).__name__}: {' '.join(str(self).split())}", _WIDTH)
        return _coloured(text)


def explain(error: Exception, text: str | None = None) -> None:
    """Have a notebook show another library's error as it shows ours: its name and its text, line by line.

    Args:
        error: the error, which is then raised on as it is.
        text: what to say instead of its own text.
    """
    lines = _coloured(f"{type(error).__name__}: {str(error).strip() if text is None else text}")
    error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]  # looked for by IPython alone


def _coloured(text: str) -> list[str]:
    name, _, said = text.partition(":")
    return [f"{_RED}{name}{_PLAIN}:{said}"]


class LakeError(ExplainedError):
    """Base of all errors of the lake package; its text says what is wrong and what to do."""


class ContractError(LakeError):
    """A name, a version or a row breaks the lake table's contract."""


class LakeTableError(LakeError):
    """The lake table, the catalogue or the checkpoint table cannot be made or is not as it must be."""


class SnapshotError(LakeError):
    """A snapshot cannot be written, read or rolled forward."""


class SnapshotBusyError(SnapshotError):
    """Somebody else is writing the snapshot just now; trying again will help."""


class DecodeError(LakeError):
    """Bytes that are not DynamoDB JSON, or that no column can hold."""


class ExportError(LakeError):
    """An export's target or format cannot be served."""
