"""What memory and time one invocation of the function takes, for the template's defaults.

One process that imports what the function imports, gets events as Lambda delivers them, 6 MB at most (the limit of
an invocation's payload), and writes to an endpoint in another process. Printed: CPU milliseconds a record, and the
process's largest resident memory, which on Linux counts from its beginning on. Lambda gives a function one whole
processor at 1,769 MB (AWS Lambda developer guide, "Configuring memory"), so its share at `MB` is MB / 1769.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import boto3

from benchmarks.apply import KEY, ORIGIN, REGION, SECRET, TABLE, _NoGaps, endpoint, event, now_ms
from ingest import lambda_function
from ingest.apply import Applier
from ingest.handler import Replicator
from ingest.lakewriter import direct_writer
from ingest.observe import SchemaObserver
from ingest.policy import Policy
from ingest.quarantine import DirectoryPlace, Quarantine
from ingest.sessions import client_config

MAX_PAYLOAD: Final = 6 << 20
WHOLE_PROCESSOR_MB: Final = 1769


def measure(records: int, rounds: int) -> dict[str, Any]:
    """Run `rounds` events of `records` records each."""
    assert lambda_function.handler
    payload = json.dumps(event(0, records))
    if len(payload) > MAX_PAYLOAD:
        raise SystemExit(
            f"{records} records make {len(payload):,} bytes: an invocation takes {MAX_PAYLOAD:,}"
        )
    with endpoint(None) as server, tempfile.TemporaryDirectory() as folder:
        port = server.ports["dynalake"]
        client = boto3.Session("AKIDEXAMPLE", SECRET, region_name=REGION).client(
            "dynamodb", endpoint_url=f"http://127.0.0.1:{port}", config=client_config()
        )
        replicator = Replicator(
            Applier(
                client,
                TABLE,
                now_ms=now_ms,
                sleep=time.sleep,
                random=random.Random(1),
                writer=direct_writer(client),
            ),
            Policy({}, key_attributes=KEY, hash_key=None),
            Quarantine(DirectoryPlace(Path(folder)), "bench"),
            SchemaObserver(client, "dynalake.catalogue", TABLE, now_ms),
            _NoGaps(),
            now_ms,
            origin=ORIGIN,
        )
        cpu, wall = time.process_time(), time.perf_counter()
        for number in range(rounds):
            replicator.process(event(number * records, records), lambda: 60.0)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "records": records,
        "payload_bytes": len(payload),
        "cpu_ms_per_record": round(1000 * cpu / (records * rounds), 3),
        "wall_s_per_batch": round(wall / rounds, 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1000, help="records of an event")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.records, options.rounds)
    if options.json:
        json.dump(found, sys.stdout, indent=2)
        return
    for name, value in found.items():
        print(f"{name:<20}{value:>12,}")
    for megabytes in (256, 512, 1024, WHOLE_PROCESSOR_MB):
        seconds = found["cpu_ms_per_record"] * found["records"] / 1000 * WHOLE_PROCESSOR_MB / megabytes
        print(f"at {megabytes:>5,} MB a batch needs about {seconds:6.2f} s of this machine's processor")


if __name__ == "__main__":
    main()
