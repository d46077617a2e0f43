"""The onboarding page followed to the letter: its commands, and how long each takes.

`python -m tests.operate.stopwatch` begins with nothing but a clone: it makes a virtual environment, installs
dynalake, and goes through the page between two accounts of an AWS that runs on this machine. Only the endpoint is
added to what the page says. It prints each step with its seconds, and ends when a row that is written to the source
is in the lake.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.end_to_end.ministack import REGION, serving
from tests.environments import ROOT, environment
from tests.operate.conftest import strict_python
from tests.operate.land import LAKE, SOURCE, Land, profiles
from tests.waiting import until

PAGE: Final = ROOT / "docs" / "onboarding.md"
TABLE: Final = "orders"
LAKE_TABLE: Final = f"dynalake.{SOURCE}.{TABLE}"


def commands(page: str) -> list[list[str]]:
    """The commands that a page tells to type, up to the one that takes everything away again."""
    told = page.partition("## When it is not wanted")[0]
    blocks = re.findall(r"```console\n(.*?)```", told, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line.startswith("$ ")]


def follow(land: Land, run: Callable[[list[str]], None]) -> Iterator[tuple[str, float]]:
    """Do what the page says; gives each step and its seconds.

    Args:
        land: the accounts; the source account has a table with some rows, and its stream off.
        run: runs a dynalake command.
    """
    for words in commands(PAGE.read_text(encoding="utf-8")):
        if words[0] not in ("dynalake", "aws"):
            continue  # the installation, which whoever calls this has done
        began = time.monotonic()
        if words[0] == "aws":
            switch_stream_on(land, words)
        elif words[1] == "init":
            run([*words[1:], "--endpoint-url", land.aws.endpoint])
        elif words[1] == "deploy":
            run([*words[1:], "--yes"])
        else:
            run(words[1:])
        yield " ".join(words[: 3 if words[0] == "dynalake" else 4]), time.monotonic() - began
    began = time.monotonic()
    land.put(TABLE, {"pk": {"S": "after"}, "sk": {"N": "1"}})
    until(lambda: "after" in [row["pk"]["S"] for row in land.rows(LAKE_TABLE)], land.aws.tail)
    yield "a row written to the source is in the lake", time.monotonic() - began


def switch_stream_on(land: Land, words: list[str]) -> None:
    """What `aws dynamodb update-table` on the page does, without the AWS CLI."""
    assert words[1:3] == ["dynamodb", "update-table"], words
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options["--profile"] == "shop"
    specification = dict(part.split("=") for part in options["--stream-specification"].split(","))
    land.client("dynamodb", SOURCE).update_table(
        TableName=options["--table-name"],
        StreamSpecification={
            "StreamEnabled": specification["StreamEnabled"] == "true",
            "StreamViewType": specification["StreamViewType"],
        },
    )


def begin(land: Land) -> None:
    """The source account as a team has it: a table with rows, and no stream."""
    land.make_source(TABLE, stream=None)
    for number in range(100):
        land.put(TABLE, {"pk": {"S": f"customer-{number}"}, "sk": {"N": str(number)}})


def main() -> None:
    """Go through the page with a stopwatch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        shown: list[tuple[str, float]] = []
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        pip = [str(folder / "venv" / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, str(ROOT)], check=True, stderr=subprocess.DEVNULL)
        shown.append(("a virtual environment, and pip install .", time.monotonic() - began))
        python = strict_python(folder, environment("ministack", folder / "ministack"))
        (folder / "server").mkdir()
        with serving(python, folder / "server") as aws, profiles(folder):
            land = Land(aws, folder, folder / "none.zip")
            begin(land)

            def run(words: list[str]) -> None:
                command = [str(folder / "venv" / "bin" / "dynalake"), *words]
                done = subprocess.run(
                    command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise SystemExit(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")

            shown += follow(land, run)
        shown.append(
            (f"in all; accounts {SOURCE} and {LAKE}, {REGION}", sum(seconds for _, seconds in shown))
        )
        sys.stdout.writelines(f"{seconds:7.1f} s  {step}\n" for step, seconds in shown)


if __name__ == "__main__":
    main()
