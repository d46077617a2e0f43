"""What writing a stream record to the lake costs the CPU of the one who writes, beside plain boto3.

Three contenders write the same items on the same condition to the same endpoint, turn about in one run:

    dynalake        the handler, from the Lambda event to the batch's report, with its direct writer, 16 in flight
    boto3           `put_item` in a loop, over requests that are ready
    boto3, 8 threads   the same in 8 threads

The endpoint runs in another process and answers at once, so what is measured is the client: the CPU seconds of
this process, all its threads and the kernel's share. All three verify its certificate, as they do AWS's. After
each turn the endpoint's book is checked: the same writes, all of them, and a sample of their signatures computed
again by botocore.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3

from benchmarks.endpoint import fingerprint
from ingest.apply import IN_FLIGHT, Applier, condition
from ingest.handler import Replicator
from ingest.lakewriter import direct_writer
from ingest.observe import SchemaObserver
from ingest.policy import Policy
from ingest.quarantine import DirectoryPlace, Quarantine
from ingest.records import Origin, change_of
from ingest.sessions import client_config
from ingest.wire import to_boto3
from lake.contract.rows import lake_row
from lake.contract.versions import table_of_stream
from tests.ingest_speed.certificates import make_certificates
from tests.ingest_speed.signatures import is_signed

TABLE: Final = "dynalake.prod.orders"
REGION: Final = "eu-west-1"
SECRET: Final = "a secret key of the usual 40 characters."
STREAM: Final = "arn:aws:dynamodb:eu-west-1:111111111111:table/orders/stream/2026-01-01T00:00:00.000"
ORIGIN: Final = Origin(table_of_stream(STREAM), replicated_ttl="")
KEY: Final = ("customer", "order")
BATCH: Final = 1000
"""Records of an event: the event source mapping's default is 100, and 1,000 suits a busy shard."""

OURS, LOOP, THREADS = "dynalake", "boto3", "boto3, 8 threads"
CONTENDERS: Final = (OURS, LOOP, THREADS)


class Endpoint:
    """The endpoint's process, one port for each contender."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.ports = dict(zip(CONTENDERS, self._line(), strict=True))

    def forget(self) -> None:
        self._ask("forget")

    def report(self, contender: str) -> Any:
        return self._ask(f"report {self.ports[contender]}")

    def _ask(self, command: str) -> Any:
        assert self._process.stdin
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


@contextmanager
def endpoint(certificate: Path | None) -> Iterator[Endpoint]:
    command = [sys.executable, "-m", "benchmarks.endpoint", str(len(CONTENDERS)), TABLE]
    with subprocess.Popen(
        [*command, *([str(certificate)] if certificate else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Endpoint(process)


def image(number: int) -> dict[str, Any]:
    """An order of about 700 bytes: 15 attributes, of all types, two of them nested."""
    return {
        "customer": {"S": f"CUSTOMER#{number % 500:08d}"},
        "order": {"S": f"ORDER#{number:012d}"},
        "status": {"S": "SHIPPED"},
        "total": {"N": "1234.56"},
        "currency": {"S": "EUR"},
        "lines": {
            "L": [
                {"M": {"sku": {"S": "SKU-00042"}, "count": {"N": "2"}, "price": {"N": "19.99"}}},
                {"M": {"sku": {"S": "SKU-00777"}, "count": {"N": "1"}, "price": {"N": "5"}}},
            ]
        },
        "address": {
            "M": {"street": {"S": "Hauptstraße 1"}, "city": {"S": "Köln"}, "postcode": {"S": "50667"}}
        },
        "tags": {"SS": ["express", "gift", "new"]},
        "paid": {"BOOL": True},
        "note": {"NULL": True},
        "picture": {"B": "AAECAwQFBgcICQoLDA0ODw=="},
        "scores": {"NS": ["1", "2.5", "3"]},
        "created": {"N": str(1767225600000 + number)},
        "email": {"S": f"customer{number % 500}@example.com"},
        "revision": {"N": "3"},
    }


def event(begin: int, count: int) -> dict[str, Any]:
    """An event as Lambda delivers it, each record of another item."""
    return {"Records": [_record(number) for number in range(begin, begin + count)]}


def _record(number: int) -> dict[str, Any]:
    new = image(number)
    return {
        "eventID": f"{number:032x}",
        "eventName": "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "eventSourceARN": STREAM,
        "dynamodb": {
            "ApproximateCreationDateTime": 1767225600.0,
            "Keys": {name: new[name] for name in KEY},
            "NewImage": new,
            "OldImage": {**new, "status": {"S": "PACKED"}},
            "SequenceNumber": str(4_421_584_500_000_000_000_000 + number),
            "SizeBytes": 1300,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    }


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Contest:
    """The contenders and what they are to write."""

    def __init__(self, endpoint: Endpoint, records: int, authority: Path | None, folder: Path) -> None:
        self._endpoint = endpoint
        self._authority = authority
        events = [event(begin, min(BATCH, records - begin)) for begin in range(0, records, BATCH)]
        policy = Policy(key_attributes=KEY)
        changes = [change_of(record, policy, ORIGIN) for each in events for record in each["Records"]]
        rows = [(lake_row(change, now_ms()), condition(change)) for change in changes]
        self.expected = sorted(fingerprint({"TableName": TABLE, "Item": row, **rule}) for row, rule in rows)
        requests = [{"TableName": TABLE, "Item": to_boto3(row), **rule} for row, rule in rows]
        self._turns: dict[str, Callable[[], None]] = {
            OURS: self._dynalake(events, policy, folder),
            LOOP: self._boto3_loop(requests),
            THREADS: self._boto3_threads(requests),
        }

    def turn(self, contender: str) -> float:
        """Records per CPU second of one turn, whose writes are checked."""
        self._endpoint.forget()
        began = time.process_time()
        self._turns[contender]()
        took = time.process_time() - began
        self.signatures = self._check(contender)
        return len(self.expected) / took

    def _check(self, contender: str) -> int:
        report = self._endpoint.report(contender)
        if sorted(report["fingerprints"]) != self.expected:
            raise SystemExit(
                f"{contender}: {len(report['fingerprints'])} writes came, not the {len(self.expected)} that should"
            )
        for request in report["sample"]:
            if not is_signed(request["headers"], base64.b64decode(request["body"]), SECRET):
                raise SystemExit(f"{contender}: a request is not signed as botocore would")
        return len(report["sample"])

    def _client(self, contender: str) -> Any:
        scheme = "https" if self._authority else "http"
        return boto3.Session("AKIDEXAMPLE", SECRET, "IQoJb3JpZ2luX2VjEJ" * 35).client(
            "dynamodb",
            region_name=REGION,
            endpoint_url=f"{scheme}://127.0.0.1:{self._endpoint.ports[contender]}",
            verify=str(self._authority) if self._authority else None,
            config=client_config(),
        )

    def _dynalake(
        self, events: Sequence[Mapping[str, Any]], policy: Policy, folder: Path
    ) -> Callable[[], None]:
        client = self._client(OURS)
        replicator = Replicator(
            Applier(
                client,
                TABLE,
                now_ms=now_ms,
                sleep=time.sleep,
                random=random.Random(),
                in_flight=IN_FLIGHT,
                writer=direct_writer(client),
            ),
            policy,
            Quarantine(DirectoryPlace(folder), "orders"),
            SchemaObserver(client, "dynalake.catalogue", TABLE, now_ms),
            _NoGaps(),
            now_ms,
            origin=ORIGIN,
        )

        def turn() -> None:
            for each in events:
                report = replicator.process(each, lambda: 60.0)
                if report.outcomes["applied"] != len(each["Records"]):
                    raise SystemExit(f"dynalake did not apply a batch: {report}")

        return turn

    def _boto3_loop(self, requests: Sequence[Mapping[str, Any]]) -> Callable[[], None]:
        client = self._client(LOOP)

        def turn() -> None:
            for request in requests:
                client.put_item(**request)

        return turn

    def _boto3_threads(self, requests: Sequence[Mapping[str, Any]]) -> Callable[[], None]:
        client = self._client(THREADS)
        pool = ThreadPoolExecutor(8)

        def turn() -> None:
            for _ in pool.map(lambda request: client.put_item(**request), requests):
                pass

        return turn


class _NoGaps:
    def given_up(self, detail: str) -> None:
        raise SystemExit(f"a record was given up: {detail}")


def measure(records: int, rounds: int, *, tls: bool) -> dict[str, Any]:
    """Run the contest and give its figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority, certificate = make_certificates(folder, "127.0.0.1") if tls else (None, None)
        with endpoint(certificate) as place:
            contest = Contest(place, records, authority, folder)
            speeds: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
            for contender in CONTENDERS:  # connections, imports, the catalogue: once
                contest.turn(contender)
            for _ in range(rounds):
                for contender in CONTENDERS:
                    speeds[contender].append(contest.turn(contender))
    medians = {contender: statistics.median(found) for contender, found in speeds.items()}
    return {
        "ratio": round(medians[OURS] / medians[LOOP], 2),
        "ratio_to_threads": round(medians[OURS] / medians[THREADS], 2),
        "records_per_cpu_second": {contender: round(speed) for contender, speed in medians.items()},
        "each_round": {contender: [round(speed) for speed in found] for contender, found in speeds.items()},
        "record_bytes": len(json.dumps(image(0), ensure_ascii=False, separators=(",", ":")).encode()),
        "records_each_turn": records,
        "rounds": rounds,
        "writes_checked": records * rounds * len(CONTENDERS),
        "signatures_checked_each_turn": contest.signatures,
        "tls": tls,
        "python": platform.python_version(),
        "boto3": boto3.__version__,
        "processors": os.cpu_count(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench apply", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--records", type=int, default=3000, help="records of a contender's turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender; the median counts")
    parser.add_argument(
        "--plain", action="store_true", help="over plain HTTP; else TLS, verified, as AWS is reached"
    )
    wanted = parser.parse_args()
    for name in ("AWS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        os.environ.pop(name, None)
    found = measure(wanted.records, wanted.rounds, tls=not wanted.plain)
    if wanted.json:
        print(json.dumps(found))
        return
    speeds: Mapping[str, int] = found["records_per_cpu_second"]
    print(f"{'':18}{'records a CPU second':>22}{'microseconds a record':>24}{'to boto3':>10}")
    for contender, speed in speeds.items():
        print(f"{contender:18}{speed:>22,}{1e6 / speed:>24,.0f}{speed / speeds[LOOP]:>10.1f}")
    print(
        f"medians of {found['rounds']} rounds of {found['records_each_turn']:,} records of {found['record_bytes']} "
        f"bytes, {'TLS verified' if found['tls'] else 'no TLS'}; every write checked, and "
        f"{found['signatures_checked_each_turn']} signatures a turn"
    )


if __name__ == "__main__":
    main()
