"""Wrong versions of single steps of a redrive, as a careless hand might write them; see `tests.ingest.mutants`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pytest

import ingest.redrive
from ingest.documents import Meaning, Pointer
from ingest.health import HealthStore
from ingest.records import key_identity, lambda_event
from ingest.redrive import Redrive, RedriveReport
from ingest.repair import Mended, Repair, Wanted
from ingest.shelves import Shelf, Stored
from lake.contract.health import Gap
from lake.contract.rows import Change, version_of
from lake.contract.versions import Version, read_over
from tests.ingest import redriving

Patch = pytest.MonkeyPatch


def trusts_the_old_image(patch: Patch) -> None:
    """Applies what the document holds, as newer than what the lake shows, instead of asking the source."""
    understand, read = Redrive._understand, Repair._read
    images: dict[Any, Mapping[str, Any]] = {}

    def remember(self: Redrive, stored: Stored, report: RedriveReport) -> Meaning | None:
        document = json.loads(stored.body)
        payload = document.get("payload", {})
        payload = json.loads(payload) if isinstance(payload, str) else payload
        for record in payload.get("Records", [document.get("record")]):
            if record and "NewImage" in record["dynamodb"]:
                image = record["dynamodb"]["NewImage"]
                images[key_identity({"pk": image["pk"]})] = image
        return understand(self, stored, report)

    def from_document(self: Repair, key: Mapping[str, Any], *known: Version) -> Change | None:
        image = images.get(key_identity(key))
        if image is None or not known:
            return read(self, key, *known)
        lake_key = self._policy.apply(key)
        seen = version_of(self._get(self._lake, self._applier.table, lake_key))
        return Change(lake_key, self._policy.apply(image), read_over(seen, *known), read_over=seen)

    patch.setattr(Redrive, "_understand", remember)
    patch.setattr(Repair, "_read", from_document)


class _NothingLeaves:
    """A shelf whose documents were taken away already."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def replace(self, stored: Stored, document: Mapping[str, Any]) -> None:
        self._shelf.replace(stored, document)

    def take_away(self, stored: Stored) -> None:
        pass


def taken_away_before_it_is_settled(patch: Patch) -> None:
    settle = Redrive._settle

    def hasty(self: Redrive, shelf: Any, batch: Sequence[Any], report: RedriveReport) -> None:
        for document in batch:
            shelf.take_away(document.stored)
        settle(self, _NothingLeaves(shelf), batch, report)  # type: ignore[arg-type]

    patch.setattr(Redrive, "_settle", hasty)


def gap_closed_although_a_document_failed(patch: Patch) -> None:
    patch.setattr(Redrive, "_why_not_closed", lambda *_: "")
    tell = Redrive._tell_health

    def shrug(self: Redrive, queues: Any, covers_all: bool, began: int, report: RedriveReport) -> None:
        left, report.left = report.left, 0
        tell(self, queues, covers_all, began, report)
        report.left = left

    patch.setattr(Redrive, "_tell_health", shrug)


def known_version_ignored(patch: Patch) -> None:
    mend = Redrive._mend

    def forget(self: Redrive, wanted: Mapping[Any, Wanted]) -> dict[Any, Mended]:
        return mend(self, {identity: Wanted(each.key) for identity, each in wanted.items()})

    patch.setattr(Redrive, "_mend", forget)


def overtaken_is_taken_for_settled(patch: Patch) -> None:
    patch.setattr(ingest.redrive, "_may_be_older", lambda _: False)


def refused_is_taken_for_settled(patch: Patch) -> None:
    mend = Redrive._mend

    def absent(self: Redrive, wanted: Mapping[Any, Wanted]) -> dict[Any, Mended]:
        return {
            identity: Mended(each.wanted, "absent") if each.outcome == "refused" else each
            for identity, each in mend(self, wanted).items()
        }

    patch.setattr(Redrive, "_mend", absent)


def lost_in_silence(patch: Patch) -> None:
    """A pointer to records that the stream no longer has is taken away, and no gap says so."""
    patch.setattr(Redrive, "_note_lost", lambda *_: None)


def gap_closed_by_time(patch: Patch) -> None:
    """What was put away since the run began counts as covered."""
    close = HealthStore.close_gaps

    def as_of_now(self: HealthStore, mended_by: str, began_ms: int) -> list[Gap]:
        return close(self, mended_by, self._now_ms() if mended_by == "redrive" else began_ms)

    patch.setattr(HealthStore, "close_gaps", as_of_now)


def first_answer_is_all(patch: Patch) -> None:
    """Of what a pointer means only the first answer's records are taken."""

    def follow(self: Redrive, pointer: Pointer) -> list[Mapping[str, Any]]:
        reader = self._stream(pointer.arn)
        found, _ = reader.records(reader.iterator_at(pointer.shard_id, pointer.first))
        return list(lambda_event(found, pointer.arn)["Records"])

    patch.setattr(Redrive, "_follow", follow)


MUTANTS: Final[Sequence[Callable[[Patch], None]]] = (
    trusts_the_old_image,
    taken_away_before_it_is_settled,
    gap_closed_although_a_document_failed,
    known_version_ignored,
    overtaken_is_taken_for_settled,
    refused_is_taken_for_settled,
    lost_in_silence,
    gap_closed_by_time,
    first_answer_is_all,
)

CAUGHT_BY_SCENARIO: Final[Mapping[Callable[[Patch], None], Callable[[], None]]] = {
    trusts_the_old_image: redriving.the_source_is_asked_again,
    taken_away_before_it_is_settled: redriving.a_kill_leaves_the_document,
    gap_closed_although_a_document_failed: redriving.one_that_can_still_not_be_written_stays_with_its_gap,
    known_version_ignored: redriving.a_record_that_comes_late_does_no_harm,
    overtaken_is_taken_for_settled: redriving.a_row_that_an_older_change_reaches_meanwhile_is_looked_at_again,
    refused_is_taken_for_settled: redriving.one_that_can_still_not_be_written_stays_with_its_gap,
    lost_in_silence: redriving.what_the_stream_lost_leaves_a_gap_that_only_a_repair_closes,
    gap_closed_by_time: redriving.what_is_put_away_meanwhile_keeps_the_gap_open,
    first_answer_is_all: redriving.a_pointer_means_every_record_from_its_first_to_its_last,
}

CAUGHT_BY_SIMULATOR: Final[Sequence[Callable[[Patch], None]]] = (
    trusts_the_old_image,
    taken_away_before_it_is_settled,
    gap_closed_although_a_document_failed,
    refused_is_taken_for_settled,
)
SEEDS: Final = 200
"""Within so many seeds the simulator catches each of these; the rest need what is too rare for a few seeds."""
