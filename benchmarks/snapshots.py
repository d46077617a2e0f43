"""How fast a full snapshot is made, from scan pages and from an export, beside what people use and beside the parser.

    pages         `lake.pages` and `lake.snapshot`: the pages' bytes, through a boto3 client, to a snapshot in place
    export        `lake.exports` and `lake.snapshot`: the data files of an S3 export, checksums verified, likewise
    awswrangler   `awswrangler.dynamodb.read_items` over the same client and pages, to a pandas frame in memory
    boto3         a scan with boto3, its TypeDeserializer, a pandas frame in memory
    refresh       `lake.publish`: 1,000 changes into the snapshot that `pages` made, its spare being there
    floor         DuckDB alone, told every attribute and type beforehand: lines split and every value extracted as
                  text, nothing checked and nothing kept; `floor of export` unpacks the export's files for it
    kept          the floor, with its texts put into a table of a DuckDB file: what keeping alone costs

Every contender runs in a process of its own; what counts is its CPU time, all threads and the kernel's share, from
the first byte to the result, without imports. The client is boto3's own, with a stand-in where it would send the
request: signing, retries and parsing are real, the network is not there. awswrangler refuses an attribute of two
types and a set of binaries, so its pages have texts instead; as it and boto3 are slow, they read fewer rows.

Before it is timed, each way of dynalake is checked: every item comes back from the snapshot as it was.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.items import KEY, lines, shapes

TABLE: Final = "dynalake.prod.orders"
REGION: Final = "eu-west-1"
PAGE_ROWS: Final = 1300
"""What fits into the 1 MB of a scan's page."""

EXPORT_ROWS: Final = 100_000
SLOW_ROWS: Final = 20_000
REFRESHED: Final = 1000
"""Changes of a refresh."""

OURS: Final = ("pages", "export")
PEERS: Final = ("awswrangler", "boto3")
FLOORS: Final = {"pages": "floor", "export": "floor of export"}
KEPT: Final = "kept"
CONTENDERS: Final = (*PEERS, *FLOORS.values(), KEPT, "export", "pages")
WRANGLER: Final = "requirements/wrangler.txt"


# What is read


def make_pages(folder: Path, rows: int, *, wrangled: bool) -> None:
    """Scan pages, one after another in a file, and where each ends."""
    folder.mkdir(parents=True)
    ends, at = [], 0
    ready = shapes(wrangled=wrangled)
    with (folder / "pages").open("wb") as file:
        for begin in range(0, rows, PAGE_ROWS):
            count = min(PAGE_ROWS, rows - begin)
            last = begin + count == rows
            items = b",".join(lines(count, begin, late=last and not wrangled, ready=ready))
            tail = b"" if last else b',"LastEvaluatedKey":{"order":{"S":"ORDER#%09d"}}' % (begin + count)
            at += file.write(
                b'{"ConsumedCapacity":{"CapacityUnits":128.5,"TableName":"%s"},"Count":%d,"Items":['
                % (TABLE.encode(), count)
            )
            at += file.write(items)
            at += file.write(b']%s,"ScannedCount":%d}' % (tail, count))
            ends.append(at)
    (folder / "ends.json").write_text(json.dumps(ends))


def make_export(folder: Path, rows: int) -> None:
    """An export in DynamoDB's layout, manifests and checksums included."""
    from lake.contract.exports import md5_of

    root = folder / "AWSDynamoDB" / "01767225600000-benchmark"
    (root / "data").mkdir(parents=True)
    listed = []
    ready = shapes()
    for number, begin in enumerate(range(0, rows, EXPORT_ROWS)):
        count = min(EXPORT_ROWS, rows - begin)
        text = lines(count, begin, late=begin + count == rows, ready=ready)
        content = gzip.compress(b"".join(b'{"Item":%b}\n' % line for line in text), 6, mtime=0)
        path = root / "data" / f"{number:05d}.json.gz"
        path.write_bytes(content)
        listed.append(
            {
                "itemCount": count,
                "md5Checksum": md5_of(content),
                "etag": hashlib.md5(content).hexdigest(),
                "dataFileS3Key": str(path.relative_to(folder)),
            }
        )
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    summary = {
        "exportArn": f"arn:aws:dynamodb:{REGION}:999999999999:table/{TABLE}/export/01767225600000-benchmark",
        "exportTime": moment,
        "tableArn": f"arn:aws:dynamodb:{REGION}:999999999999:table/{TABLE}",
        "itemCount": rows,
        "billedSizeBytes": 0,
        "outputFormat": "DYNAMODB_JSON",
    }
    files = {"files": "".join(json.dumps(each) + "\n" for each in listed), "summary": json.dumps(summary)}
    for name, text in files.items():
        (root / f"manifest-{name}.json").write_text(text)
        (root / f"manifest-{name}.md5").write_text(md5_of(text.encode()))


class _Raw(io.BytesIO):
    """What botocore reads a response's body from."""

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.getvalue()


def client_over(folder: Path) -> Any:
    """A boto3 client whose scans get these pages, one after another."""
    import boto3
    from botocore.awsrequest import AWSResponse

    ends = json.loads((folder / "ends.json").read_text())
    file = (folder / "pages").open("rb")
    sizes = iter([end - begin for begin, end in zip([0, *ends], ends, strict=False)])
    client = boto3.Session("AKIDEXAMPLE", "a secret key of the usual 40 characters.").client(
        "dynamodb", region_name=REGION
    )

    key = [
        {"AttributeName": name, "KeyType": kind} for name, kind in zip(KEY, ("HASH", "RANGE"), strict=True)
    ]
    described = json.dumps({"Table": {"TableName": TABLE, "KeySchema": key}}).encode()

    def answer(request: Any, event_name: str, **_: object) -> AWSResponse:
        body = file.read(next(sizes)) if event_name.endswith("Scan") else described
        headers = {"Content-Type": "application/x-amz-json-1.0", "Content-Length": str(len(body))}
        return AWSResponse(request.url, 200, headers, _Raw(body))

    for operation in ("Scan", "DescribeTable"):
        client.meta.events.register(f"before-send.dynamodb.{operation}", answer)
    return client


# The contenders, each in a process of its own


def run_pages(folder: Path, out: Path) -> Callable[[], int]:
    from lake.pages import RawScan

    client = client_over(folder)

    def turn() -> int:
        pages = RawScan(client, TABLE, segments=1, threads=1).pages()
        return _build(out, (page.rows for page in pages))

    return turn


def run_export(folder: Path, out: Path) -> Callable[[], int]:
    from lake.contract.exports import Folder, open_export
    from lake.exports import export_chunks

    def turn() -> int:
        files = Folder(folder)
        return _build(out, export_chunks(files, open_export(files)))

    return turn


def _build(out: Path, rows: Any) -> int:
    from lake.snapshot import SnapshotAbout, build_snapshot

    about = SnapshotAbout(TABLE, "orders", "", True, (), "a benchmark", 1_767_225_600_000)
    return build_snapshot(out, "orders", KEY, rows, list, lambda: about).rows


def run_floor(folder: Path, _: Path) -> Callable[[], int]:
    con, values, source = _floor(folder)
    counts = ", ".join(f"count({value})" for value in values.values())

    def turn() -> int:
        return int(con.execute(f"SELECT count(*), {counts} FROM {source}").fetchall()[0][0])

    return turn


def run_kept(folder: Path, out: Path) -> Callable[[], int]:
    from lake.types import identifier, literal

    con, values, source = _floor(folder)
    columns = ", ".join(f"{value} AS {identifier(name)}" for name, value in values.items())

    def turn() -> int:
        con.execute(f"ATTACH {literal(str(out))} AS kept")
        con.execute(f"CREATE TABLE kept.texts AS SELECT {columns} FROM {source}")
        con.execute("CHECKPOINT kept")
        return int(con.execute("SELECT count(*) FROM kept.texts").fetchall()[0][0])

    return turn


def _floor(folder: Path) -> tuple[Any, Mapping[str, str], str]:
    """DuckDB, each attribute's expression, and the relation to take it from, in SQL."""
    import duckdb

    from lake.decode import METADATA, _from_columns
    from lake.discover import discover, prepare
    from lake.parts import Block, Part

    packed = tuple(sorted(folder.rglob("*.json.gz")))
    files = packed or (folder / "lines.json",)
    wrapper, packing = ("Item", "gzip") if packed else (None, "uncompressed")
    con = duckdb.connect(config={"memory_limit": "1GiB", "threads": max(1, (os.cpu_count() or 2) - 1)})
    prepare(con)
    line = f"json_extract(json, '/{wrapper}')" if wrapper else "json"
    read = f"read_json_objects('{files[0]}', format = 'newline_delimited')"
    found = discover(con, f"(SELECT {line} AS line FROM {read} LIMIT 5000)", KEY)
    blocks = tuple(Block(number, file, 0, 0) for number, file in enumerate(files))
    as_text = {name: (tag, "VARCHAR") for name, (tag, _) in METADATA.items()}
    values, source = _from_columns(found, Part(blocks, "lines", wrapper), as_text, direct=False)
    source = source.replace("compression = 'uncompressed'", f"compression = '{packing}'")
    con.execute("SET preserve_insertion_order = false")
    return con, values, source


def run_refresh(_: Path, out: Path) -> Callable[[], int]:
    from lake.open import open_lake
    from lake.publish import refresh_snapshot
    from lake.snapshot import SnapshotAbout

    about = SnapshotAbout(TABLE, "orders", "", True, (), "a benchmark", 1_767_225_600_000)
    with open_lake(out) as lake:
        (rows,) = lake.sql("SELECT count(*) FROM orders").fetchall()[0]

    ready = shapes()
    brought = {turn: changes(rows, turn, ready) for turn in (1, 2, 3)}

    def refresh(turn: int) -> None:
        refresh_snapshot(out, "orders", [brought[turn]], lambda: about)

    def turn() -> int:
        refresh(3)
        return REFRESHED

    refresh(1)  # makes the spare
    refresh(2)
    return turn


def check_refresh(out: Path, rows: int) -> None:
    """The last of three refreshes is all there, or its time tells nothing; `rows` were there before them."""
    from lake.open import open_lake

    with open_lake(out) as lake:
        changed, now = lake.sql(
            "SELECT count(*) FILTER (status = 'TURN 3'), count(*) FROM orders"
        ).fetchall()[0]
    if changed != REFRESHED or now != rows + 3 * REFRESHED // 10:
        raise SystemExit(f"the refresh left {changed} changed rows of {now}")


def changes(rows: int, turn: int, ready: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Changes of rows all over the table, a tenth of them new rows, newer than what was before."""
    changed = []
    for number in range(REFRESHED):
        fresh = number % 10 == 0
        which = rows + turn * REFRESHED + number if fresh else number * (rows // REFRESHED)
        row = json.loads(next(lines(1, which, late=False, ready=ready)))
        row["status"] = {"S": f"TURN {turn}"}
        row["_lake_version"]["S"] = row["_lake_version"]["S"][:-30] + f"{turn}".rjust(30, "9")
        changed.append(json.dumps({"NewImage": row}, ensure_ascii=False).encode())
    return changed


def run_awswrangler(folder: Path, _: Path) -> Callable[[], int]:
    import awswrangler
    from awswrangler import _utils

    client = client_over(folder)
    _utils.client = lambda *_, **__: client

    def turn() -> int:
        frame = awswrangler.dynamodb.read_items(table_name=TABLE, allow_full_scan=True, use_threads=False)
        return len(frame)

    return turn


def run_boto3(folder: Path, _: Path) -> Callable[[], int]:
    import pandas as pd
    from boto3.dynamodb.types import TypeDeserializer

    client = client_over(folder)

    def turn() -> int:
        deserialize = TypeDeserializer().deserialize
        rows: list[dict[str, Any]] = []
        start: dict[str, Any] = {}
        while True:
            page = client.scan(TableName=TABLE, **start)
            rows += [{name: deserialize(value) for name, value in item.items()} for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                return len(pd.DataFrame(rows))
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    return turn


def child(contender: str, folder: Path, out: Path) -> None:
    """One turn; prints rows, CPU seconds, wall seconds and the process's peak memory."""
    turn = {
        "pages": run_pages, "export": run_export, "floor": run_floor, "awswrangler": run_awswrangler,
        "boto3": run_boto3, "floor of export": run_floor, "kept": run_kept, "refresh": run_refresh,
    }[contender](folder, out)  # fmt: skip
    wall, cpu = time.perf_counter(), time.process_time()
    rows = turn()
    figures = {
        "rows": rows,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
    }
    print(json.dumps(figures))


# The contest


def ask(python: Path, contender: str, folder: Path, out: Path) -> dict[str, Any]:
    done = subprocess.run(
        [str(python), "-m", "benchmarks.snapshots", "--child", contender, str(folder), str(out)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def wrangler_python() -> Path:
    """An interpreter that has awswrangler: in an environment of its own, as it holds other libraries back."""
    place = Path(".venv-awswrangler")
    python = place / "bin" / "python"
    if not (place / "installed").exists():
        print("installing awswrangler into .venv-awswrangler (once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "--requirement", WRANGLER], check=True)
        (place / "installed").touch()
    return python.absolute()


def check(folder: Path, out: Path, python: Path) -> None:
    """Both ways keep every item, or there is nothing to time."""
    from lake.encode import snapshot_items

    rows = 5000
    make_pages(folder / "pages", rows, wrangled=False)
    make_export(folder / "export", rows)
    want = {json.loads(line)["order"]["S"]: _normal(json.loads(line)) for line in lines(rows)}
    for contender in OURS:
        ask(python, contender, folder / contender, out)
        got = {item["order"]["S"]: _normal(item) for item in snapshot_items(out, "orders", metadata=True)}
        if got != want:
            wrong = next(key for key in want if got.get(key) != want[key])
            raise SystemExit(f"{contender} lost something: {want[wrong]} became {got.get(wrong)}")
        out.unlink()


def _normal(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: sorted(v) if k in ("SS", "NS", "BS") else _normal(v) for k, v in value.items()}
    return [_normal(each) for each in value] if isinstance(value, list) else value


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(
        prefix="dynalake-bench-", dir=os.environ.get("DYNALAKE_BENCH_DIR")
    ) as name:
        yield Path(name)


def measure(rows: int, memory_rows: int, rounds: int) -> dict[str, Any]:
    """Run the contest and give its figures."""
    ours, theirs = Path(sys.executable), wrangler_python()
    with scratch() as folder:
        out = folder / "lake.duckdb"
        check(folder / "check", out, ours)
        make_pages(folder / "pages", rows, wrangled=False)
        make_export(folder / "export", rows)
        make_pages(folder / "boto3", min(rows, SLOW_ROWS), wrangled=False)
        make_pages(folder / "awswrangler", min(rows, SLOW_ROWS), wrangled=True)
        (folder / "floor").mkdir()
        with (folder / "floor" / "lines.json").open("wb") as file:
            file.writelines(line + b"\n" for line in lines(rows))
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        for _ in range(rounds):
            for name, done in turns.items():
                out.unlink(missing_ok=True)
                place = folder / {FLOORS["export"]: "export", KEPT: FLOORS["pages"]}.get(name, name)
                done.append(ask(theirs if name in PEERS else ours, name, place, out))
        refresh = ask(ours, "refresh", folder, out)  # of the snapshot that the last turn made
        check_refresh(out, rows)
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        peaks = {}
        if memory_rows:
            for name, make in (("pages", make_pages_of), ("export", make_export)):
                make(folder / name, memory_rows)
                peaks[name] = ask(ours, name, folder / name, out)
                shutil.rmtree(folder / name)
                out.unlink()
    speeds = {
        name: statistics.median(turn["rows"] / turn["cpu_s"] for turn in done) for name, done in turns.items()
    }
    to_floor = {name: round(speeds[name] / speeds[floor], 2) for name, floor in FLOORS.items()}
    figures: dict[str, Any] = {
        "ratio_pages": round(speeds["pages"] / speeds["awswrangler"], 1),
        "ratio_export": round(speeds["export"] / speeds["awswrangler"], 1),
        "ratio_floor": min(to_floor.values()),
        "ratio_floor_each": to_floor,
        "refresh_ratio": round(
            refresh["cpu_s"] / statistics.median(turn["cpu_s"] for turn in turns["pages"]), 4
        ),
        "refresh": refresh,
        "rows_per_cpu_second": {name: round(speed) for name, speed in speeds.items()},
        "peak_gib": {name: round(max(t["peak_gib"] for t in done), 2) for name, done in turns.items()},
        "wall_s": {
            name: round(statistics.median(t["wall_s"] for t in done), 1) for name, done in turns.items()
        },
        "rows": {name: done[0]["rows"] for name, done in turns.items()},
        "row_bytes": round(statistics.mean(map(len, lines(5000)))),
        "rounds": rounds,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
    }
    if peaks:
        figures["peak_gib_10m"] = round(max(turn["peak_gib"] for turn in peaks.values()), 2)
        figures["memory_run"] = {
            name: {key: round(value, 2) for key, value in turn.items()} for name, turn in peaks.items()
        }
    return figures


def make_pages_of(folder: Path, rows: int) -> None:
    make_pages(folder, rows, wrangled=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/bench snapshots", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of a turn")
    parser.add_argument(
        "--memory-rows", type=int, default=10_000_000, help="rows of the run that measures memory; 0 for none"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender; the median counts")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.child:
        child(wanted.child[0], Path(wanted.child[1]), Path(wanted.child[2]))
        return
    found = measure(wanted.rows, wanted.memory_rows, wanted.rounds)
    if wanted.json:
        print(json.dumps(found))
        return
    speeds = found["rows_per_cpu_second"]
    print(
        f"{'':14}{'rows':>12}{'rows a CPU second':>20}{'to awswrangler':>16}{'to the floor':>14}{'peak GiB':>10}"
    )
    for name, speed in speeds.items():
        print(
            f"{name:14}{found['rows'][name]:>12,}{speed:>20,}{speed / speeds['awswrangler']:>16.1f}"
            f"{speed / speeds['floor']:>14.2f}{found['peak_gib'][name]:>10.2f}"
        )
    print(f"refresh: {found['refresh_ratio']:.2%} of the CPU time of a full build")
    for name, turn in found.get("memory_run", {}).items():
        print(f"{name}: {turn['rows']:,} rows in {turn['wall_s']:,.0f} s, at most {turn['peak_gib']:.2f} GiB")
    print(
        f"medians of {found['rounds']} rounds; rows of {found['row_bytes']} bytes; every item checked beforehand"
    )


if __name__ == "__main__":
    main()
