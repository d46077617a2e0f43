"""What a policy hides is nowhere to be found: not in the lake account, nor in a log, a metric, a reason or an error.

Each hidden value is a canary, a text or number that stands nowhere else. Records and rows go every way there is:
stream and backfill, quarantine, retries, redrive, repair. Then everything is searched.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

import ingest.scan
from dynalake.pipeline import Pipeline
from ingest.backfill import Backfill
from ingest.lambda_function import LambdaFunction
from ingest.records import lambda_event
from ingest.walk import Pacing
from tests.dynalake.accounts import command, make_source, open_pipeline, write_config
from tests.stubs.exports import full_export, incremental_export

Capture = pytest.CaptureFixture[str]
QUICK = Pacing(least_s=0.0, most_s=0.02, quiet_answers=2, quiet_s=0.02)

CANARIES: Final = {
    "dropped": "canary-dropped-71f3",
    "hashed": "canary-hashed-82a4@example.org",
    "number": "918273645546372819",
    "masked": "canary-masked-93b5",
    "member": "canary-member-a4c6",
    "element": "canary-element-b5d7",
    "key segment": "canary-segment-c6e8",
    "sort key": "746352819908172635",
    "binary": base64.b64encode(b"canary-binary-d7f9").decode(),
}
KEPT: Final = "no-canary-kept-e8a1"
"""Must be found in the lake, or the search searches nothing."""

POLICY: Final = """{ ssn = "drop", email = "hash", number = "hash", phone = "mask", photo = "drop",
  "address.street" = "drop", "contacts[].email" = "hash", sk = "hash",
  pk = { split = "#", after = { CUSTOMER = "hash" } } }""".replace("\n", " ")


def item(n: int, **more: Any) -> dict[str, Any]:
    return {
        "pk": {"S": f"CUSTOMER#{CANARIES['key segment']}#ORDER#{n}"},
        "sk": {"N": CANARIES["sort key"]},
        "ssn": {"S": CANARIES["dropped"]},
        "email": {"S": CANARIES["hashed"]},
        "number": {"N": CANARIES["number"]},
        "phone": {"L": [{"S": CANARIES["masked"]}]},
        "photo": {"B": base64.b64decode(CANARIES["binary"])},
        "address": {"M": {"street": {"S": CANARIES["member"]}, "city": {"S": KEPT}}},
        "contacts": {"L": [{"M": {"email": {"S": CANARIES["element"]}}}, {"NULL": True}]},
        **more,
    }


def key_of(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"pk": row["pk"], "sk": row["sk"]}


@pytest.fixture
def pipeline(tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setenv("DYNALAKE_HASH_KEY", "a secret of 16 or more bytes")
    monkeypatch.chdir(tmp_path)
    pipeline = open_pipeline(write_config(tmp_path, policy=POLICY))
    make_source(pipeline, {"pk": "S", "sk": "N"})
    return pipeline


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All that the packages log, with its details and its tracebacks."""
    with caplog.at_level(logging.DEBUG, "ingest"), caplog.at_level(logging.DEBUG, "dynalake"):
        yield caplog


def put(pipeline: Pipeline, row: Mapping[str, Any]) -> None:
    pipeline.source_dynamodb().put_item(TableName="orders", Item=row)


def put_largest(pipeline: Pipeline, n: int) -> None:
    """Write the largest item that the source takes (moto draws the line a little lower): no lake row can hold it."""
    for spare in range(500, 8000, 50):
        with suppress(ClientError):
            put(pipeline, item(n, filler={"S": "x" * (400 * 1024 - spare)}))
            return
    pytest.fail("no item was small enough")


def lake_side(pipeline: Pipeline) -> str:
    """Everything in the lake account, as text."""
    dynamodb = pipeline.lake_dynamodb()
    tables = dynamodb.list_tables()["TableNames"]
    assert len(tables) == 3
    return "\n".join(
        json.dumps(row, default=_text) for name in tables for row in dynamodb.scan(TableName=name)["Items"]
    )


def _text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else repr(value)


def reasons(pipeline: Pipeline) -> str:
    """What the quarantine's documents say, without the records that they keep."""
    found = []
    for path in Path(pipeline.config.quarantine).rglob("*.json"):
        document = json.loads(path.read_text())
        for kept in ("record", "item", "payload"):
            document.pop(kept, None)
        found.append(f"{path.name} {json.dumps(document)}")
    assert found
    return "\n".join(found)


def logged(log: pytest.LogCaptureFixture) -> str:
    return "\n".join(
        f"{record.getMessage()} {record.__dict__} {logging.Formatter().format(record)}"
        for record in log.records
    )


def assert_hidden(**places: str) -> None:
    for place, text in places.items():
        for what, canary in CANARIES.items():
            variants = {canary, canary.upper(), base64.b64encode(canary.encode()).decode()}
            found = [variant for variant in variants if variant in text]
            where = text.find(found[0]) if found else 0
            assert not found, f"the {what} value is in {place}: …{text[max(0, where - 80) : where + 80]}…"


def test_the_search_finds_what_is_there(pipeline: Pipeline) -> None:
    pipeline.setup()
    put(pipeline, item(1))
    row = json.dumps(item(1), default=_text)
    for canary in CANARIES.values():
        with pytest.raises(AssertionError, match="value is in place"):
            assert_hidden(place=canary)
        assert canary in row
    pipeline.backfill()
    assert KEPT in lake_side(pipeline)


def test_stream_backfill_quarantine_redrive_and_repair(
    pipeline: Pipeline, tmp_path: Path, capsys: Capture, log: pytest.LogCaptureFixture
) -> None:
    put(pipeline, item(0))
    put(pipeline, item(10, _lake_x={"S": CANARIES["dropped"]}))
    pipeline.setup()
    pipeline.backfill()
    put(pipeline, item(1))
    put(pipeline, item(2, _lake_y={"S": CANARIES["dropped"]}))
    put_largest(pipeline, 3)
    pipeline.source_dynamodb().delete_item(TableName="orders", Key=key_of(item(0)))
    finish = threading.Event()
    finish.set()
    pipeline.run_worker(threading.Event(), finish, pacing=QUICK)

    config = ("--config", tmp_path / "dynalake.toml")
    said = []
    for words in (
        ("redrive", "orders"),
        ("redrive", "orders", "--json"),
        ("redrive", "orders", "--dry-run"),
        ("status", "orders", "--json"),
        ("status", "orders"),
        ("backfill", "orders", "--json"),
        ("repair", "orders", "--dry-run"),
    ):
        _, out, err = command(capsys, *words, *config)
        said.append(out + err)
    text = lake_side(pipeline)
    assert KEPT in text
    assert "***" in text
    assert "400 KB" in reasons(pipeline)
    assert_hidden(lake=text, reasons=reasons(pipeline), logs=logged(log), commands="\n".join(said))


def test_the_function_s_logs_and_metrics(pipeline: Pipeline, capsys: Capture) -> None:
    pipeline.setup()
    rows = [
        item(1),
        item(2, _lake_y={"S": CANARIES["dropped"]}),
        item(3, bad={"N": CANARIES["number"] + "x"}),
    ]
    arn = pipeline.source_table.stream_arn
    records = [
        {
            "eventID": str(n),
            "eventName": "INSERT",
            "dynamodb": {
                "Keys": key_of(row), "NewImage": row, "SequenceNumber": str(10**20 + n),
                "ApproximateCreationDateTime": 1_795_500_000,
            },
        }
        for n, row in enumerate(rows)
    ]  # fmt: skip
    event = lambda_event(records, arn)
    event["Records"][0]["dynamodb"]["NewImage"]["odd"] = {"B": CANARIES["hashed"]}  # no base64
    event["Records"] += [
        {
            "dynamodb": {"SequenceNumber": CANARIES["number"], "Keys": {"pk": CANARIES["hashed"]}},
            "eventName": "INSERT",
        },
        {"eventName": "MODIFY", "eventSourceARN": arn, "dynamodb": {"SequenceNumber": "7", "NewImage": "x"}},
    ]
    event["Records"][3]["dynamodb"]["SequenceNumber"] = "6"
    function = LambdaFunction(pipeline.replicator(), "orders")
    package = logging.getLogger("ingest")
    before = package.handlers, package.propagate
    try:
        function.take_logs()
        function(event, SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000))
    finally:
        package.handlers, package.propagate = before
    out, err = capsys.readouterr()
    assert '"quarantined"' in out
    assert_hidden(lake=lake_side(pipeline), reasons=reasons(pipeline), function=out + err)


def test_errors_do_not_tell_values(
    pipeline: Pipeline, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that fails in an unforeseen way is logged with its traceback, and then given up."""
    pipeline.setup()
    put(pipeline, item(1))
    lake = pipeline.config.lake_table
    pipeline.lake_dynamodb().delete_table(TableName=lake)
    finish = threading.Event()
    finish.set()
    with pytest.raises(Exception, match="does not exist") as failure:
        pipeline.run_worker(threading.Event(), finish, pacing=QUICK)
    assert_hidden(error=str(failure.value), logs=logged(log))


def test_a_backfill_that_is_cut_off_leaves_no_key_in_the_lake(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a scan goes on is a key of the source: with a policy that hides keys it is not kept."""
    for n in range(12):
        put(pipeline, item(n))
    pipeline.setup()
    page = ingest.scan.Scan.page

    def small(self: ingest.scan.Scan, segment: int, start: Any) -> Any:
        with monkeypatch.context() as patch:
            scan = self._dynamodb.scan
            patch.setattr(self._dynamodb, "scan", lambda **request: scan(**request, Limit=1))
            return page(self, segment, start)

    monkeypatch.setattr(ingest.scan.Scan, "page", small)
    monkeypatch.setattr(ingest.scan, "THREADS", 1)
    save, saved = Backfill._save, [0]

    def and_look(self: Backfill, *args: Any) -> None:
        save(self, *args)
        saved[0] += 1
        assert_hidden(lake=lake_side(pipeline))

    monkeypatch.setattr(Backfill, "_save", and_look)
    report = pipeline.backfill()
    assert report.filled == 12
    assert saved[0] >= 12


def test_exports(pipeline: Pipeline, tmp_path: Path, capsys: Capture, log: pytest.LogCaptureFixture) -> None:
    pipeline.setup()
    put(pipeline, item(1))
    source = pipeline.source_table
    row = json.loads(json.dumps(item(1), default=_text))
    now = pipeline.now_ms() + 1000
    full = full_export(source.arn, [row, {**row, "_lake_x": {"S": CANARIES["dropped"]}}], shows_ms=now)
    changes = incremental_export(source.arn, [(key_of(row), row, None)], from_ms=now - 1, to_ms=now)
    said = ""
    for number, files in enumerate((full, changes)):
        address = f"export:{files.save(tmp_path / str(number))}"
        code, out, err = command(
            capsys, "backfill", "orders", "--source", address, "--config", tmp_path / "dynalake.toml"
        )
        assert code == 0, err
        said += out + err
    assert KEPT in lake_side(pipeline)
    assert_hidden(lake=lake_side(pipeline), reasons=reasons(pipeline), logs=logged(log), command=said)
