"""What a server says of a mistake, as one line that a person can act on.

HiveServer2 sends a stack trace with class names at each level; Spark's adds the query's plan. What helps is the
innermost message and where in the statement it points to.
"""

from __future__ import annotations

import re
from typing import Any, Final

MAX_LENGTH: Final = 400

_PREFIXES: Final = re.compile(
    r"^(?:\*?(?:[\w.$]+\.)*[\w$]*(?:Exception|Error)(?:\$\w+)?:\s*"  # a Java class
    r"|Error running query:\s*|Error while (?:compiling|processing) statement:\s*|Error operating \w+:\s*"
    r"|FAILED:\s*|\[[A-Z0-9_.]+\]\s+(?=(?:[\w.$]+\.)+\w+(?:Exception|Error):))"
)
_END: Final = re.compile(r"\n\s*(?:at |\+-|'|== SQL ==|== Physical)|;?\n'|\s*:\d+:\d+$|\n\tat ")
_PLACE: Final = re.compile(r"\(?\bline (\d+),? pos(?:ition)? (\d+)\)?", re.IGNORECASE)
_STATE: Final = re.compile(r"\s*SQLSTATE:\s*(\w{5})")


def said(error: BaseException | Any) -> str:
    """The server's message in one line, without class names, stack traces and plans.

    Args:
        error: PyHive's error, or the answer to a poll.
    """
    text = _raw(error)
    place = _PLACE.search(text)
    text = _END.split(text, maxsplit=1)[0]
    while (shorter := _PREFIXES.sub("", text)) != text:
        text = shorter
    text = text.split("\n", 1)[0]
    text = _STATE.sub("", _PLACE.sub("", text)).strip(" ;:*\n")
    text = " ".join(text.split()) or "the server gave no reason"
    if len(text) > MAX_LENGTH:
        text = text[: MAX_LENGTH - 3] + "..."
    return f"{text} (line {place[1]}, position {place[2]})" if place else text


def _raw(error: Any) -> str:
    """The longest story there is: of PyHive's error, of a status, or of anything else."""
    answer = error.args[0] if isinstance(error, BaseException) and error.args else error
    status = getattr(answer, "status", None)
    for holder in (answer, status):
        message = getattr(holder, "errorMessage", None)
        if message:
            return str(message)
    lines = getattr(status, "infoMessages", None)
    return str(lines[0] if lines else answer)
