"""The segments of a parallel scan, read in turn by a few threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Final, Protocol, TypeVar

THREADS: Final = 4
"""Requests under way at once; a page has 1 MB at most, so this bounds the memory, too."""

Start = Mapping[str, Any] | None
"""The key after which a segment goes on; None for its beginning."""


class SegmentPage(Protocol):
    """One answer of a scan: of which segment, and where that goes on (None at its end)."""

    @property
    def segment(self) -> int: ...  # noqa: D102
    @property
    def last_key(self) -> Start: ...  # noqa: D102


PageT = TypeVar("PageT", bound=SegmentPage)


def take_turns(
    read: Callable[[int, Start], PageT], starts: Mapping[int, Start], threads: int = THREADS
) -> Iterator[PageT]:
    """All pages of some segments, in no particular order; threads read ahead by one page each.

    A segment that has given a page waits until all others have had their turn: so no partition of the table is asked
    all the time.

    Args:
        read: reads one page of a segment, from its beginning or from where an earlier page ended; in a thread of its
            own where there is more than one.
        starts: the segments to read, and where each begins.
        threads: requests under way at once; with one, the next page is read when it is asked for.
    """
    waiting = deque(starts.items())
    if threads == 1:  # nothing is read ahead, so no thread is needed
        while waiting:
            page = read(*waiting.popleft())
            if page.last_key is not None:
                waiting.append((page.segment, page.last_key))
            yield page
        return
    running: set[Future[PageT]] = set()
    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        while waiting or running:
            while waiting and len(running) < threads:
                running.add(pool.submit(read, *waiting.popleft()))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                page = future.result()
                if page.last_key is not None:
                    waiting.append((page.segment, page.last_key))
                yield page
