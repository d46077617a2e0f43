"""The command line: `dynalake`, or `python -m dynalake`.

Exit codes: 0 done; 1 done, and the answer is no (parity found differences, the demo claimed something false);
2 a mistake that the user can mend, said in one line; 130 interrupted.
"""

from __future__ import annotations

import sys

from dynalake.errors import UserError
from expectations.errors import ExpectationsError
from ingest.errors import IngestError
from lake.errors import LakeError
from queries.errors import QueryError

MISTAKE = 2
INTERRUPTED = 130
_EXPECTED = (UserError, ExpectationsError, IngestError, LakeError, QueryError)


def main() -> None:
    """Run the command line and leave with its exit code."""
    from dynalake.cli.app import app

    try:
        app()
    except _EXPECTED as error:
        _leave(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("dynalake: interrupted\n")
        sys.exit(INTERRUPTED)
    except Exception as error:
        # botocore's errors (no route, no credentials) are the user's surroundings, not our defect.
        if not type(error).__module__.startswith("botocore"):
            raise
        _leave(f"AWS: {error}")


def _leave(message: str) -> None:
    sys.stderr.write(f"dynalake: {' '.join(message.split())}\n")
    sys.exit(MISTAKE)
