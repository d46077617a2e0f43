"""What a cold start of the function costs before its first batch: the zip's size, and the import of its modules.

The zip is built and unpacked, as Lambda does it; the SDK comes from this environment, as it comes from Lambda's
runtime. Each round is a process of its own. The zip has no bytecode and Lambda's folder cannot be written, so
our modules are compiled each time, here as there; the SDK's are not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

from ingest.package import ENTRY, OF_THE_RUNTIME, build_lambda_zip

_SCRIPT: Final = """
import sys, time
sys.path[:0] = [sys.argv[1]]
sys.path.append(sys.argv[2])
sys.dont_write_bytecode = True
before = time.perf_counter(), time.process_time()
import boto3
sdk = time.perf_counter(), time.process_time()
import {entry}
after = time.perf_counter(), time.process_time()
ours = [name for name in sys.modules if name.split(".")[0] in ("ingest", "lake")]
assert sys.modules["{entry}"].__file__.startswith(sys.argv[1])
print(*(sdk[n] - before[n] for n in (0, 1)), *(after[n] - sdk[n] for n in (0, 1)), len(ours), len(sys.modules))
"""


def measure(rounds: int) -> dict[str, Any]:
    """Build, unpack, import again and again."""
    with tempfile.TemporaryDirectory() as name:
        package = build_lambda_zip(Path(name, "lambda.zip"))
        task = Path(name, "task")
        with zipfile.ZipFile(package.path) as archive:
            archive.extractall(task)
            unpacked = sum(entry.file_size for entry in archive.infolist())
        runtime = Path(name, "runtime")
        runtime.mkdir()
        site = Path(sysconfig.get_path("purelib"))
        for library in OF_THE_RUNTIME:  # links, so that nothing else of this environment can be imported
            for found in (site / library, site / f"{library}.py"):
                if found.exists():
                    (runtime / found.name).symlink_to(found)
        script = _SCRIPT.format(entry=ENTRY)
        times: list[list[float]] = []
        for _ in range(rounds + 1):
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", script, str(task), str(runtime)],
                capture_output=True,
                text=True,
                check=True,
                env={"PATH": os.defpath},
            )
            times.append([float(word) for word in done.stdout.split()])
    del times[0]  # the disk's cache

    def milliseconds(column: int) -> dict[str, float]:
        found = [1000 * row[column] for row in times]
        return {
            "median": round(statistics.median(found), 1),
            "least": round(min(found), 1),
            "most": round(max(found), 1),
        }

    return {
        "zip_bytes": package.size,
        "zip_files": package.entries,
        "unpacked_bytes": unpacked,
        "sdk_import_ms": milliseconds(0),
        "sdk_import_cpu_ms": milliseconds(1),
        "import_ms": milliseconds(2),
        "import_cpu_ms": milliseconds(3),
        "modules_of_ours": round(times[0][4]),
        "modules_in_all": round(times[0][5]),
        "rounds": rounds,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench cold", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=9, help="processes; the median counts")
    wanted = parser.parse_args()
    found = measure(wanted.rounds)
    if wanted.json:
        print(json.dumps(found))
        return
    print(
        f"zip: {found['zip_bytes'] / 1e6:.2f} MB, {found['zip_files']} files ({found['unpacked_bytes'] / 1e6:.2f} MB "
        "unpacked)"
    )
    for what, key in (("boto3, of the runtime", "sdk"), ("the function and all of the zip", "")):
        prefix = f"{key}_import" if key else "import"
        wall, cpu = found[f"{prefix}_ms"], found[f"{prefix}_cpu_ms"]
        print(
            f"import of {what}: {wall['median']:.0f} ms ({wall['least']:.0f} to {wall['most']:.0f}), "
            f"CPU {cpu['median']:.0f} ms"
        )
    print(
        f"{found['modules_of_ours']} modules of ours, {found['modules_in_all']} in all; {found['rounds']} rounds"
    )


if __name__ == "__main__":
    main()
