"""The Lambda function's zip: `python -m ingest.package OUT.zip`.

In it: `ingest.lambda_function` and all that it imports of this repository, and what `requirements/lambda.txt`
pins with hashes. Not in it: boto3, botocore and what these bring. The runtime has them (AWS Lambda developer
guide, "Runtime-included SDK versions"), the calls made here (AssumeRole, PutItem, UpdateItem, GetItem, Query,
PutObject) are as old as the services, and with them the zip would be some twenty times as large, which every
cold start would have to fetch and unpack.

The same sources and the same lock file give the same bytes: entries are sorted, times and permissions fixed, and
there is no bytecode, which would belong to one Python version. The compressed bytes are zlib's, so two builds
are compared on machines with the same zlib. Every wheel must be pure Python, so one zip serves every
architecture and every runtime from Python 3.11 on.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingest.errors import IngestError
from lake.contract.files import shared_mode, write_bytes

ROOT: Final = Path(__file__).resolve().parent.parent
"""The folder in which `ingest` and `lake` stand: the repository."""

ENTRY: Final = "ingest.lambda_function"

OF_THE_RUNTIME: Final = frozenset(
    {"boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3"}
)
"""What every Python runtime of Lambda has: the SDK, and what it needs itself."""

OURS: Final = frozenset({"ingest", "lake"})
OF_THE_LAKE: Final = ("lake.contract", "lake.errors")
"""All that `ingest` may import from `lake`; `lake` itself loads the rest only when asked for it."""

_LEFT_OUT: Final = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})
"""What an installer notes about an installation: no part of a package, and not the same everywhere."""

_NOT_NEEDED: Final = "aws_lambda_powertools/event_handler/"
"""Powertools' web framework with its Swagger UI, half of the zip: logs and metrics know nothing of it."""

_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can express."""
_PERMISSIONS: Final = 0o100644


class PackageError(IngestError):
    """The zip cannot be built."""


@dataclass(frozen=True, slots=True)
class Package:
    """A zip that was built.

    Attributes:
        path: the file.
        entries: files in it.
        size: bytes.
        sha256: of the file, hexadecimal.
    """

    path: Path
    entries: int
    size: int
    sha256: str


def build_lambda_zip(out: Path, root: Path = ROOT) -> Package:
    """Build the function's zip; its handler is `ingest.lambda_function.handler`.

    Args:
        out: the zip's path; a file that is there is replaced once the new one is whole.
        root: the repository.

    Raises:
        PackageError: the lock file is missing, a pinned package cannot be installed or is not pure Python, or
            the function imports something that neither the zip nor the runtime has.
    """
    with tempfile.TemporaryDirectory() as folder:
        libraries = Path(folder, "libraries")
        _install(_lock(root), libraries)
        _check_pure(libraries)
        files = {name: path.read_bytes() for name, path in _libraries(libraries)}
        sources = _closure(root)
        _check_imports(sources, {name.partition("/")[0].removesuffix(".py") for name in files})
        files |= {str(path.relative_to(root).as_posix()): text for path, text in sources.items()}
        partial = Path(folder, "lambda.zip")
        _write(partial, files)
        content = partial.read_bytes()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, content, error=PackageError, mode=shared_mode())
    return Package(out, len(files), len(content), hashlib.sha256(content).hexdigest())


def _lock(root: Path) -> Path:
    """The lock file: of the repository, or the copy of it that an installed package has."""
    lock = root / "requirements" / "lambda.txt"
    return lock if lock.is_file() else root / "ingest" / "lambda-requirements.txt"


def _install(lock: Path, target: Path) -> None:
    """Install what the lock file pins, and nothing else: no dependency of it is looked for, nothing is built."""
    if not lock.is_file():
        raise PackageError(f"{lock} is missing", remedy="build the zip in a clone of the repository")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = [
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--no-compile",
        "--target",
        str(target),
    ]
    done = subprocess.run(  # noqa: S603 - our own interpreter, and our own lock file
        [*pip, *options, "--requirement", str(lock)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PackageError(f"pip could not install {lock.name}: {done.stderr.strip() or done.stdout.strip()}")


def _check_pure(libraries: Path) -> None:
    """Refuse a wheel with compiled code, which would fit one architecture and one Python only.

    Raises:
        PackageError: a wheel is not pure Python.
    """
    for wheel in libraries.glob("*.dist-info/WHEEL"):
        lines = wheel.read_text(encoding="utf-8").splitlines()
        if "Root-Is-Purelib: true" not in lines or not any(line.endswith("-none-any") for line in lines):
            raise PackageError(f"{wheel.parent.name} is not pure Python: the zip would fit one platform only")


def _libraries(libraries: Path) -> Iterator[tuple[str, Path]]:
    for path in libraries.rglob("*"):
        name = path.relative_to(libraries).as_posix()
        useless = path.name in _LEFT_OUT or path.suffix == ".pyc" or name.startswith(("bin/", _NOT_NEEDED))
        if path.is_file() and not useless:
            yield name, path


def _closure(root: Path) -> dict[Path, bytes]:
    """The entry point's module, the packages it stands in, and all of ours that these import, early or late."""
    found: dict[Path, bytes] = {}
    waiting = [ENTRY]
    while waiting:
        module = waiting.pop()
        waiting += [module[:dot] for dot, letter in enumerate(module) if letter == "."]
        path = _file_of(root, module)
        if path is not None and path not in found:
            found[path] = path.read_bytes()
            waiting += [name for name in _imported(found[path]) if _may_enter(name)]
    if not found:
        raise PackageError(f"{ENTRY} is not in {root}")
    return found


def _file_of(root: Path, module: str) -> Path | None:
    """The file of a module, or None where the name is one inside a module."""
    place = root.joinpath(*module.split("."))
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _may_enter(name: str) -> bool:
    return name.split(".")[0] == "ingest" or name == "lake" or name.startswith(OF_THE_LAKE)


def _check_imports(sources: dict[Path, bytes], bundled: set[str]) -> None:
    """Refuse an import that only a developer's machine could serve.

    Raises:
        PackageError: there is one.
    """
    at_hand = sys.stdlib_module_names | OF_THE_RUNTIME | OURS | bundled
    for path, text in sources.items():
        missing = {name.split(".")[0] for name in _imported(text)} - at_hand
        if missing:
            raise PackageError(
                f"{path.name} imports {', '.join(sorted(missing))}, which neither the zip nor the runtime has",
                remedy="add it to the lambda group in pyproject.toml, then run scripts/lock",
            )


def _imported(source: bytes) -> set[str]:
    """The names which a module imports, also within functions, but not for the type checker alone."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
    return found


def _write(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3
            entry.external_attr = _PERMISSIONS << 16
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, 9)


def main(arguments: list[str]) -> int:
    """Build the zip that the command line names, and say what it is."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m ingest.package OUT.zip\n")
        return 2
    try:
        package = build_lambda_zip(Path(arguments[0]))
    except PackageError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"{package.path}  {package.entries} files  {package.size} bytes  sha256 {package.sha256}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
