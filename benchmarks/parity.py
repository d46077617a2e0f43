"""How many rows a side a CPU second of the client compares, and in how much memory: dynalake and two other ways.

Against a stub of two equal tables in a process of its own (`benchmarks.tables`), so that what is measured is the
client. Each contender is a process of its own, and finds the two tables to be the same:

- dynalake: `expectations.parity` over both tables' scan pages, as `dynalake parity` reads them;
- mapbox: dynamodb-replicator's way (`diff.js`): scan one table, read each page's keys from the other by BatchGetItem
  and compare item by item, then the same with the tables' roles exchanged, which finds extra rows. In Python with
  boto3, and kinder than the original: 100 keys a request instead of 25, and wire form compared as it is;
- dict: both tables by boto3's Scan into a dict by key, and the dicts compared.

`ratio` is dynalake to mapbox, rows a CPU second; `ratio_one_way` to its first pass alone; `peak_gib` dynalake's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3

KEY: Final = ("customer", "order")
ROOT: Final = Path(__file__).parent.parent


def client(port: int) -> Any:
    from ingest.sessions import client_config

    session = boto3.Session("AKIDEXAMPLE", "secret", region_name="eu-west-1")
    return session.client(
        "dynamodb", endpoint_url=f"http://127.0.0.1:{port}", region_name="eu-west-1", config=client_config()
    )


def dynalake(port: int, _rows: int) -> int:
    from dynalake.jobs.parity import raw_lines, read_keys
    from expectations.parity import Side, compare

    def side(table: str) -> Side:
        dynamodb = client(port)
        return Side(
            raw_lines(dynamodb, table, segments=4), lambda keys: read_keys(dynamodb, table, keys, time.sleep)
        )

    result = compare(side("source"), side("lake"), KEY, None, sleep=time.sleep, monotonic=time.monotonic)
    assert result.exact, result
    assert result.source_rows == result.lake_rows
    return result.source_rows


def mapbox(port: int, rows: int) -> int:
    assert mapbox_one_way(port, rows) == mapbox_one_way(port, rows, "lake", "source")
    return rows


def mapbox_one_way(port: int, _rows: int, scanned: str = "source", other: str = "lake") -> int:
    dynamodb = client(port)
    compared = 0
    for items in _pages(dynamodb, scanned):
        for start in range(0, len(items), 100):
            some = {_name(item): item for item in items[start : start + 100]}
            keys = [{name: item[name] for name in KEY} for item in some.values()]
            answer = dynamodb.batch_get_item(RequestItems={other: {"Keys": keys, "ConsistentRead": True}})
            found = {_name(item): item for item in answer["Responses"][other]}
            assert not answer["UnprocessedKeys"]
            for name, item in some.items():
                assert _comparable(item) == _comparable(found[name])
                compared += 1
    return compared


def plain_dicts(port: int, _rows: int) -> int:
    dynamodb = client(port)
    source, lake = (
        {_name(item): _comparable(item) for items in _pages(dynamodb, table) for item in items}
        for table in ("source", "lake")
    )
    assert source == lake
    return len(source)


def _pages(dynamodb: Any, table: str) -> Iterator[list[dict[str, Any]]]:
    for page in dynamodb.get_paginator("scan").paginate(TableName=table):
        yield page["Items"]


def _name(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["customer"]["S"], item["order"]["S"]


def _comparable(item: Mapping[str, Any]) -> dict[str, Any]:
    """Sets without order, metadata left out; dicts compare without order by themselves."""
    return {name: _unordered(value) for name, value in item.items() if not name.startswith("_lake_")}


def _unordered(value: Mapping[str, Any]) -> Any:
    ((tag, content),) = value.items()
    match tag:
        case "SS" | "NS" | "BS":
            return tag, frozenset(content)
        case "M":
            return {name: _unordered(member) for name, member in content.items()}
        case "L":
            return [_unordered(element) for element in content]
    return value


CONTENDERS: Final[Mapping[str, Callable[[int, int], int]]] = {
    "dynalake": dynalake,
    "mapbox": mapbox,
    "mapbox, one way": mapbox_one_way,
    "dict": plain_dicts,
}


@contextmanager
def tables(rows: int) -> Iterator[int]:
    """The two tables: the port at which they are."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.tables", str(rows)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdin
        yield int(process.stdout.readline())
        process.stdin.close()


def turn(contender: str, rows: int) -> dict[str, float]:
    """One contender's turn, in a process of its own."""
    with tables(rows) as port:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.parity", "--contender", contender),
                *("--port", str(port), "--rows", str(rows)),
            ],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{contender}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def contend(contender: str, port: int, rows: int) -> None:
    """Compare, and print the figures of this process."""
    began, cpu = time.perf_counter(), time.process_time()
    compared = CONTENDERS[contender](port, rows)
    assert compared == rows
    print(
        json.dumps(
            {
                "rows_per_cpu_s": rows / (time.process_time() - cpu),
                "seconds": time.perf_counter() - began,
                "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench parity", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows a side that dynalake compares")
    parser.add_argument("--peer-rows", type=int, default=20_000, help="rows a side that the others compare")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, small ones; the median counts")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    for name in ("AWS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        os.environ.pop(name, None)
    if wanted.contender:
        contend(wanted.contender, wanted.port, wanted.rows)
        return
    speeds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    peaks: dict[str, float] = {}
    for _ in range(wanted.rounds):
        for name in CONTENDERS:
            found = turn(name, wanted.peer_rows)
            speeds[name].append(found["rows_per_cpu_s"])
            peaks[name] = found["peak_gib"]
    large = turn("dynalake", wanted.rows)
    medians = {name: statistics.median(each) for name, each in speeds.items()}
    ours = large["rows_per_cpu_s"]
    answer = {
        "ratio": round(ours / medians["mapbox"], 1),
        "ratio_one_way": round(ours / medians["mapbox, one way"], 1),
        "ratio_dict": round(ours / medians["dict"], 1),
        "peak_gib": round(large["peak_gib"], 3),
        "rows": wanted.rows,
        "seconds": round(large["seconds"], 1),
        "rows_per_cpu_s": {
            **{name: round(each) for name, each in medians.items()},
            "dynalake, all rows": round(ours),
        },
        "each_round": {name: [round(speed) for speed in found] for name, found in speeds.items()},
        "peer_rows": wanted.peer_rows,
        "peak_gib_at_peer_rows": {name: round(peak, 3) for name, peak in peaks.items()},
        "python": platform.python_version(),
        "boto3": boto3.__version__,
        "processors": os.cpu_count(),
    }
    if wanted.json:
        print(json.dumps(answer))
        return
    print(f"{'':22}{'rows':>10}{'rows a CPU second':>20}{'to mapbox':>12}{'peak GiB':>10}")
    shown = {**medians, "dynalake, all rows": ours}
    for name, speed in shown.items():
        rows, peak = (
            (wanted.rows, large["peak_gib"]) if name not in peaks else (wanted.peer_rows, peaks[name])
        )
        print(f"{name:22}{rows:>10,}{speed:>20,.0f}{speed / medians['mapbox']:>12.1f}{peak:>10.2f}")


if __name__ == "__main__":
    main()
