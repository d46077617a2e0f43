"""The command line: `dynalake`, or `python -m dynalake`. Its exit codes stand in `dynalake.cli.endings`."""

from __future__ import annotations

import json
import sys
import traceback
from typing import NoReturn

from dynalake.cli.endings import DEFECT, DONE, INTERRUPTED, last_words, told_to_end
from dynalake.errors import error_document
from lake.errors import ExplainedError, explained


def main() -> None:
    """Run the command line and leave with its exit code."""
    with told_to_end() as told:
        try:
            _run()
        except KeyboardInterrupt:
            _leave(*last_words(_command(), told.number))
        except SystemExit as leaving:
            # Typer makes a plain exit of an interrupt, and "Aborted" of one at a question.
            if leaving.code == INTERRUPTED or (told.number is not None and leaving.code not in (None, DONE)):
                _leave(*last_words(_command(), told.number))
            raise
        except Exception:
            # DuckDB, stopped by a signal, says "Query interrupted" by a RuntimeError of no kind of its own.
            if told.number is None:
                traceback.print_exc()
                sys.exit(DEFECT)
            _leave(*last_words(_command(), told.number))


def _run() -> None:
    from dynalake.cli.app import app

    try:
        app()
    except Exception as error:
        # Errors of botocore (no route, no credentials) come from the user's environment. They are no defect.
        shown = explained(error)
        if shown is None:
            raise
        _fail(shown)


def _fail(error: ExplainedError) -> NoReturn:
    if "--json" in sys.argv[1:]:
        sys.stdout.write(json.dumps(error_document(error), ensure_ascii=False) + "\n")
    _leave(str(error), error.exit_code)


def _command() -> str | None:
    return next((word for word in sys.argv[1:] if not word.startswith("-")), None)


def _leave(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"dynalake: {' '.join(message.split())}\n")
    sys.exit(code)
