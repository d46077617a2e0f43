"""Files that are replaced in one step, as every package writes them. This is the only module that does so.

`replacing(out)` gives a writer a folder of its own beside `out`, in which it writes the new file. When the block
ends, the file and its folder are flushed to the disk, and the file is renamed over `out`. A reader sees the old
file or the new one, never a part of one.

    out                        what readers see
    .out.<pid>.<random>.tmp/   one writer's folder, which only its owner may read
        lock                   locked (flock) for as long as the writer lives
        file                   what becomes `out`: a file, or a folder
        old                    the folder that `file` replaces, for the moment between the two renames
    .out.lock                  locked while a folder is swapped, or, with `exclusive`, for the whole time

**Two writers of the same path**: the last complete one wins. With `exclusive`, which is for what takes long to
build, the second one is refused. **Dead writers**: the kernel releases a lock when its holder ends, however it ends.
A writer removes a folder only if it can lock it, so it never touches what a living writer has, be that another
process or another thread, and process numbers that occur again (in containers) do not matter.

**Permissions**: a new file has the mode 0600 and a new folder 0700. What is replaced keeps its mode and its group.

Only the standard library is imported here, because the Lambda function imports this module.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lake.errors import ExplainedError

PRIVATE: Final = 0o600
"""The mode of a new file: only its owner may read it."""

_LOCK, _FILE, _OLD, _WORK = "lock", "file", "old", "work"
_SUFFIX: Final = ".tmp"


@dataclass(frozen=True, slots=True)
class Replacement:
    """Where a writer writes.

    Attributes:
        file: what becomes the target: a file that the writer creates, or a folder that exists.
        work: a folder for temporary files; removed at the end.
    """

    file: Path
    work: Path


@contextmanager
def replacing(
    out: Path,
    *,
    error: Callable[..., ExplainedError],
    directory: bool = False,
    mode: int = PRIVATE,
    exclusive: Callable[..., ExplainedError] | None = None,
    finish: Callable[[Replacement], None] | None = None,
    sweeps: bool = True,
) -> Iterator[Replacement]:
    """A place to write a new version of `out`, which replaces `out` if the block ends without an error.

    Args:
        out: the file, or the folder.
        error: makes the error to raise, from its message and `remedy`.
        directory: whether `out` is a folder.
        mode: of a new file; a new folder may also be entered by whoever may read it. A target that exists keeps
            its own.
        exclusive: makes the error that is raised if another writer is at work on `out`. Without it, both write, and
            the last one to finish wins.
        finish: puts the new version in place in another way than `publish`.
        sweeps: whether to remove what dead writers of `out` left. It lists the folder; who writes many files to one
            calls `sweep` once instead.

    Raises:
        ExplainedError: what `error` or `exclusive` makes: `out` cannot be written, or is being written.
    """
    out = out.absolute()
    claim = None
    try:
        with explaining(out, error):
            _check(out, directory)
            if exclusive is not None:
                claim = _claim(out, exclusive)
            if sweeps:
                _sweep(out.parent, out.name, exclusive)
            folder, lock = _folder(out)
        place = Replacement(folder / _FILE, folder / _WORK)
        try:
            with explaining(out, error):
                place.work.mkdir(mode=0o700)
                if directory:
                    place.file.mkdir(mode=0o700)
            with explaining(out, error, folder):
                yield place
            with explaining(out, error):
                _set_mode(out, place.file, mode)
                (finish or (lambda it: publish(out, it)))(place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    finally:
        if claim is not None:
            _release(claim, _claim_of(out))


def publish(out: Path, place: Replacement) -> None:
    """Put the new version in the place of the old one, once it is on the disk."""
    _flush(place.file)
    if not place.file.is_dir():
        place.file.replace(out)
    else:
        # A folder cannot be renamed over another. So that no two writers swap at once, they take turns.
        claim = _claim_of(out)
        held = _lock(claim, wait=True)
        try:
            if out.is_dir():
                out.rename(place.file.with_name(_OLD))
            try:
                place.file.rename(out)
            except OSError:
                _restore(out, place.file.parent)
                raise
        finally:
            _release(held, claim)
    _flush_folder(out.parent)


def write_bytes(
    out: Path,
    content: bytes,
    *,
    error: Callable[..., ExplainedError],
    mode: int = PRIVATE,
    sweeps: bool = True,
) -> None:
    """Write a file in one step; arguments and errors are those of `replacing`."""
    with replacing(out, error=error, mode=mode, sweeps=sweeps) as place:
        place.file.write_bytes(content)


def write_text(out: Path, text: str, *, error: Callable[..., ExplainedError], mode: int = PRIVATE) -> None:
    """Write a file of UTF-8 text in one step; arguments and errors are those of `replacing`."""
    write_bytes(out, text.encode("utf-8"), error=error, mode=mode)


def is_within(path: Path, folder: Path) -> bool:
    """Whether a file that is named below a folder is there: neither `../` nor a link leads out of it."""
    return path.resolve().is_relative_to(folder.resolve())


def make_folder(folder: Path) -> None:
    """Create a folder and those above it that are missing; only their owner may enter them.

    Raises:
        OSError: it cannot be created.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def shared_mode() -> int:
    """The mode that the process's umask gives new files: for files that hold no data."""
    # Python can only read the umask by setting it, which another thread might notice. Linux shows it.
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 0o666 & ~int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    return 0o644


@contextmanager
def explaining(out: Path, error: Callable[..., ExplainedError], only: Path | None = None) -> Iterator[None]:
    """Turn an OSError into an error that says what is wrong with `out`, and what to do.

    Args:
        out: the file or folder that is written.
        error: makes the error.
        only: translate only what concerns this folder or a full disk; the block does more than write.
    """
    try:
        yield
    except OSError as found:
        full = found.errno in (errno.ENOSPC, errno.EDQUOT)
        if only is not None and not full and not str(found.filename or "").startswith(str(only)):
            raise
        why = found.strerror or str(found)
        match found.errno:
            case errno.ENOSPC | errno.EDQUOT:
                remedy = "free some space, or give a path on another disk"
            case errno.EACCES | errno.EPERM | errno.EROFS:
                remedy = "give a path in a folder that you may write to"
            case errno.EISDIR:
                remedy = "give the path of a file"
            case errno.ENOTDIR | errno.ENOENT:
                remedy = "create the folder, or give another path"
            case errno.ENAMETOOLONG:
                remedy = "give a shorter name"
            case _:
                remedy = ""
        raise error(f"{out} cannot be written: {why}", remedy=remedy) from found


def _check(out: Path, directory: bool) -> None:
    if out.is_dir() and not directory:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not out.parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{out.parent} is not a directory")


def _claim_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.lock")


def _claim(out: Path, busy: Callable[..., ExplainedError]) -> int:
    """Become the only writer of `out`."""
    path = _claim_of(out)
    try:
        held = _lock(path, wait=False)
    except PermissionError:
        held = None
        if not path.exists():
            raise
    if held is None:
        try:
            process = path.read_text(encoding="utf-8").strip()
        except OSError:
            process = ""
        who = (
            f"process {process}"
            if process and process != str(os.getpid())
            else "another thread of this process"
        )
        raise busy(f"{out} is being written by {who}", remedy="wait until it is done, then run it again")
    os.ftruncate(held, 0)
    os.write(held, str(os.getpid()).encode())
    return held


def _folder(out: Path) -> tuple[Path, int]:
    """A new folder for one writer, and its lock."""
    while True:
        folder = out.with_name(f".{out.name}.{os.getpid()}.{secrets.token_hex(4)}{_SUFFIX}")
        folder.mkdir(mode=0o700)
        # Another writer may remove the folder before it is locked: it looks as if its writer were dead.
        with suppress(FileNotFoundError):
            held = _lock(folder / _LOCK, wait=False)
            if held is not None:
                return folder, held


def _lock(path: Path, *, wait: bool) -> int | None:
    """Create and lock a file; None if another holds it and `wait` is not set."""
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), PRIVATE)
        if not _flock(held, wait=wait):
            os.close(held)
            return None
        # It may have been removed between the two calls: then the lock is on a file that nobody else will find.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), path.lstat()):
                return held
        os.close(held)


def _flock(held: int, *, wait: bool) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _release(held: int | None, path: Path) -> None:
    if held is not None:
        with suppress(OSError):
            path.unlink()
        os.close(held)


def sweep(folder: Path) -> None:
    """Remove what dead writers of any file left in a folder."""
    _sweep(folder, None, None)


def _sweep(parent: Path, name: str | None, busy: Callable[..., ExplainedError] | None) -> None:
    """Remove what dead writers left, and put back a folder that one had moved aside."""
    stem = r"\.(?P<name>.+)" if name is None else rf"\.(?P<name>{re.escape(name)})"
    ours = re.compile(rf"{stem}\.\d+\.[0-9a-f]{{8}}{re.escape(_SUFFIX)}")
    earlier = re.compile(rf"{stem}\.(?P<pid>\d+)(?:\.(?P<what>part(?:\.wal)?|old|work|partial))")
    for path in sorted(parent.iterdir()):
        if found := ours.fullmatch(path.name):
            _sweep_folder(path, parent / found["name"])
        elif name is not None and busy is None and path.name == f".{name}.lock":
            with suppress(PermissionError):
                _release(_lock(path, wait=False), path)
        elif name is not None and (found := earlier.fullmatch(path.name)):
            _sweep_earlier(path, parent / name, int(found["pid"]), found["what"], busy)


def _sweep_folder(folder: Path, out: Path) -> None:
    try:
        held = _lock(folder / _LOCK, wait=False)
    except OSError:  # another's, or it is gone
        return
    if held is None:
        return
    try:
        if (folder / _OLD).exists():
            claim = _claim_of(out)
            turn = _lock(claim, wait=True)
            try:
                _restore(out, folder)
            finally:
                _release(turn, claim)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)


def _restore(out: Path, folder: Path) -> None:
    if (folder / _OLD).exists() and not out.exists():
        (folder / _OLD).rename(out)


def _sweep_earlier(
    path: Path, out: Path, pid: int, what: str, busy: Callable[..., ExplainedError] | None
) -> None:
    """The same for what dynalake 0.1.0 left, which named its files by process numbers."""
    if pid != os.getpid() and _alive(pid):
        if busy is not None:
            raise busy(
                f"{out} is being written by process {pid}",
                remedy=f"wait until it is done; if that process does something else, remove {path}",
            )
    elif what == "old" and not out.exists():
        path.rename(out)
    else:
        remove(path)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file, or a folder with everything in it; do nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _set_mode(out: Path, file: Path, mode: int) -> None:
    """Give the new version the old one's permissions, or those of a new file."""
    group = None
    with suppress(FileNotFoundError):
        old = out.stat()
        mode, group = stat.S_IMODE(old.st_mode), old.st_gid
    for path in (file, *(file.rglob("*") if file.is_dir() else ())):
        allowed = mode
        if path.is_dir():
            allowed |= (mode & 0o444) >> 2  # a folder may be entered by whoever may read it
        elif path is not file:
            allowed &= 0o666  # `mode` may be that of the old folder
        if group is not None and path.lstat().st_gid != group:
            try:
                os.chown(path, -1, group)
            except OSError:
                allowed &= ~0o070  # another group must not get what the old one had
        path.chmod(allowed)


def _flush(path: Path) -> None:
    if path.is_dir():
        for each in path.iterdir():
            _flush(each)
        _flush_folder(path)
        return
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _flush_folder(folder: Path) -> None:
    """Make a rename last; some file systems cannot flush a folder."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
