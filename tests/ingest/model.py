"""A simulator of everything that can happen to a pipeline, with the real classes at work.

One run is one seed. A source table is written (few keys, so that writes collide), its stream splits, rolls, ages
and is switched off and on; workers, Lambda-like redeliveries, backfills by scan and from exports, repairs, redrives
and an operator work on the lake; and any call to AWS may be throttled, fail, time out, kill its process, or take
effect later.

How operations interleave: every call to a stub is a point where other actors may take steps before the call is
done, so an operation can be overtaken between any two of its calls. Nesting gives no
interleaving in which two paused operations take turns; a write whose answer was lost and that lands later
(after any number of other steps) covers what that could add on the lake table.

At every step every consumer of health asks (`simulator.checks`): health must never say that the lake is complete while
it lacks something that is not on its way.

    world       the accounts, the clocks, the faults, and the real parts
    places      where documents are put away
    readers     workers, one step at a time, and Lambda's event source mapping
    actors      what happens
    checks      what must hold

What the simulator takes for granted, because the world does:
- A list of shards misses a new shard, or a new shard's parent's end, for a minute at most. GetShardIterator knows every
  shard that exists.
- An item's changes reach a stream's shards in order, parents before children.
- A setting of the mapping under which records may be skipped lasts until a heartbeat has seen it.
- A write under way lands within minutes: before a day passes, and before an operator, who has first looked at
  both tables twice, declares a gap closed. A process that was replaced is dead by then, too.
- What is delivered again is a whole call that was made before. One that failed is not made again after an
  operator's repair closed the gap that it left; a worker that resumes repeats from its checkpoint to the end.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import accumulate
from typing import Final

from ingest.errors import IngestError
from tests.ingest.simulator.actors import Actors
from tests.ingest.simulator.world import AWS_ERRORS, OTHERS, TABLE_ARN, DivergedError
from tests.stubs.faults import Killed

__all__ = ["TABLE_ARN", "DivergedError", "World", "run"]

TROUBLES: Final = (Killed, IngestError, *AWS_ERRORS)
"""What ends an actor's step, and nothing else."""


class World(Actors):
    """One run."""

    def run(self, steps: int) -> None:
        """Live through `steps` steps, then drain and check."""
        for _ in range(self.random.randint(0, 8)):
            self._write()
        if self.random.random() < 0.3:  # an export from before the stream was read: it must not be used
            self._take_export()
        for _ in range(self.random.randint(0, 3)):
            self._write()
        self._set_up()
        self._calm = False
        for step in range(steps):
            self._writing = 30 if step < steps // 2 else 4
            self._others_left = OTHERS
            self.act()
            self.ask()
        self._calm_down()
        for walker in self._walkers if self.random.random() < 0.7 else ():
            walker.end()
        self._drain()
        self._check_explained()
        self._redrive_and_redeliver()
        self._replay_everything()
        self._drain()
        self._check_explained()
        self._redrive_and_redeliver()
        self._operator()
        self._drain()
        self._check_equal()

    def act(self) -> None:
        """One step of one actor."""
        names, chances = self._choices()
        (name,) = self.random.choices(names, cum_weights=chances)
        self.trace.append(f"{'  ' * self._depth}{name}")
        with suppress(*TROUBLES):
            getattr(self, name)()
        if self._depth:
            self.ask()

    def _choices(self) -> tuple[list[str], list[float]]:
        """Who may act now, and how likely each is or one before it."""
        state = self._depth == 0, self._writing, self.stream.enabled
        if state not in self._chances:
            actors = self._actors()
            chances = accumulate(weight * self._zeal_of(name) for weight, name in actors)
            self._chances[state] = [name for _, name in actors], list(chances)
        return self._chances[state]

    def _actors(self) -> list[tuple[int, str]]:
        """Who may act now, each with its weight."""
        actors = [
            (self._writing, "_write_some"),
            (20, "_walk"),
            (5, "_redeliver"),
            (4, "_backfill"),
            (5, "_mend"),
            (4, "_redrive"),
            (2, "_take_export"),
            (3, "_backfill_from_export"),
            (1, "_mend_exported_changes"),
            (5, "_land"),
            (3, "_reshape"),
            (5, "_pass_time"),
            (4, "_heat_or_cool"),
            (2, "_deliver_foreign"),
            (3, "_look"),
        ]
        if self._flaps:
            actors += [(4, "_flap")]
        if self.by_function:
            actors += [(2, "_meddle"), (3, "_redeploy")]
        if self._ageing:
            actors += [(3 if self.stream.enabled else 10, "_switch")]
        if self._depth == 0:
            actors += [(2, "_operator"), (2, "_replace_worker"), (2, "_worker_dies")]
            if self._ageing:
                actors += [(4, "_a_day_passes")]
        return actors


def run(seed: int, *, strict: bool = True) -> World:
    """One run; raises DivergedError, whose text says how to see it again."""
    world = World(seed, strict=strict)
    try:
        world.run(steps=world.random.randint(5, 40))
    except DivergedError as error:
        raise DivergedError(
            f"seed {seed}: {error}; see it again with run({seed}) of tests.ingest.model"
        ) from None
    return world
