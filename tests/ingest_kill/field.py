"""A pipeline between two accounts of an AWS in a process of its own, and `dynalake` as processes to be killed.

The AWS is ministack: it lives on when a client dies, and a call under way takes effect though nobody hears the
answer. It has one shard a stream; splits, trims and faults are the simulator's (`tests.ingest.model`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Final

from dynalake.config import PipelineConfig, load_config
from tests.end_to_end.ministack import REGION, ROOT_SECRET, Ministack
from tests.waiting import PATIENCE_S

SOURCE: Final = "111111111111"
LAKE: Final = "999999999999"


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of a process, without what a developer's own may say about AWS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DYNALAKE_"))}
    return {
        **kept,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "COLUMNS": "80",
    }


class Running:
    """One `dynalake` process."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.words = words
        self._log = (folder / f"{words[0]}-{time.monotonic_ns()}.log").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dynalake", *words, "--config", str(folder / "dynalake.toml")],
            env=surroundings(folder),
            cwd=folder,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        """What it has printed so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def kill(self) -> None:
        """kill -9: nothing in the process gets to know."""
        self._process.kill()
        self._process.wait()

    def tell(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; gives the exit code."""
        self._process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Wait for its own end; gives the exit code."""
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"dynalake {self.words} did not end; it said:\n{self.said()}") from None


class Field:
    """The pipeline `orders`, its two accounts, and a hand that writes the source all the while."""

    def __init__(self, folder: Path, aws: Ministack, name: str = "orders") -> None:
        self.folder = folder
        self.name = name
        self._running: list[Running] = []
        (folder / "credentials").write_text(
            "".join(
                f"[{account}]\naws_access_key_id = {account}\naws_secret_access_key = {ROOT_SECRET}\n"
                for account in (SOURCE, LAKE)
            )
        )
        (folder / "dynalake.toml").write_text(
            f"[pipelines.{name}]\n"
            f'source = {{ table = "{name}", {_side(SOURCE, aws.endpoint)} }}\n'
            f"lake = {{ {_side(LAKE, aws.endpoint)} }}\n"
            f"max_wcu = 250\n"  # so that a backfill lasts long enough to be killed
            f'quarantine = "{folder / "quarantine"}"\n'
        )
        self.config: PipelineConfig = load_config(folder / "dynalake.toml").pipelines[name]
        self.source = aws.client("dynamodb", SOURCE)
        self.lake = aws.client("dynamodb", LAKE)
        self.source.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )

    def start(self, verb: str, *words: str) -> Running:
        """Start `dynalake <verb> orders`."""
        running = Running(self.folder, verb, self.name, *words)
        self._running.append(running)
        return running

    def do(self, verb: str, *words: str) -> str:
        """Run it to its end, which must be good; gives what it said."""
        running = self.start(verb, *words)
        code = running.end()
        assert code == 0, f"exit code {code}:\n{running.said()}"
        return running.said()

    def close(self) -> None:
        """Leave no process behind."""
        for running in self._running:
            if running.lives:
                running.kill()

    # What both sides hold

    def source_items(self) -> dict[str, Any]:
        return {item["pk"]["S"]: item for item in _scan(self.source, self.name)}

    def lake_rows(self) -> dict[str, Any]:
        return {row["pk"]["S"]: row for row in _scan(self.lake, self.config.lake_table)}

    def shown(self) -> dict[str, Any]:
        """The lake's rows as readers see them."""
        return {
            pk: {name: value for name, value in row.items() if not name.startswith("_lake_")}
            for pk, row in self.lake_rows().items()
            if "_lake_deleted" not in row
        }

    def entry(self, name: str) -> Mapping[str, Any] | None:
        """An entry of the checkpoint table."""
        key = {"pipeline": {"S": self.config.lake_table}, "entry": {"S": name}}
        item: Mapping[str, Any] | None = self.lake.get_item(
            TableName=self.config.checkpoint_table, Key=key
        ).get("Item")
        return item

    def lease_owner(self) -> str:
        item = self.entry("lease")
        return str(item["owner"]["S"]) if item else ""


class Hand:
    """Writes and deletes items of the source, again and again, until told to stop."""

    def __init__(self, field: Field, keys: int, random: Random, pause_s: float = 0.005) -> None:
        self.writes = 0
        self._field = field
        self._keys = keys
        self._random = random
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="hand", daemon=True)

    def __enter__(self) -> Hand:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def write_once(self) -> None:
        key = {"pk": {"S": f"k{self._random.randrange(self._keys)}"}}
        if self._random.random() < 0.25:
            self._field.source.delete_item(TableName=self._field.name, Key=key)
        else:
            number = {"N": str(self.writes)}
            more = {f"a{self._random.randrange(6)}": {"S": "x" * self._random.randrange(300)}}
            self._field.source.put_item(TableName=self._field.name, Item={**key, "n": number, **more})
        self.writes += 1

    def _work(self) -> None:
        while not self._stop.wait(self._pause_s):
            self.write_once()


def _side(account: str, url: str) -> str:
    return f'account = "{account}", region = "{REGION}", profile = "{account}", endpoint_url = "{url}"'


def _scan(dynamodb: Any, table: str) -> list[dict[str, Any]]:
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [item for page in pages for item in page["Items"]]
