"""The demo: the main job on real data, on an embedded AWS with two accounts.

tour      all of it, from end to end: `dynalake demo`
live      the same world in a notebook, where the day passes when the reader says so
stage     what both play on; `flights` is what they play, `world` the embedded AWS
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynalake.demo.live import World

__all__ = ["ready_lake", "start_world"]


def start_world(folder: str | Path = "flights-demo", *, at: str = "06:00") -> World:
    """Two AWS accounts in this kernel, with a pipeline; see `dynalake.demo.live`."""
    from dynalake.demo.live import start_world as started

    return started(folder, at=at)


def ready_lake(folder: str | Path = "flights-demo") -> Path:
    """A snapshot to look at; see `dynalake.demo.live`."""
    from dynalake.demo.live import ready_lake as ready

    return ready(folder)
