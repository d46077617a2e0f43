"""Where the simulated pipeline puts documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ingest.errors import QuarantineError
from ingest.shelves import Stored

if TYPE_CHECKING:
    from tests.ingest.simulator.world import WorldBase


class Place:
    """Documents in memory."""

    def __init__(self, world: WorldBase) -> None:
        self._world = world
        self.documents: dict[str, Mapping[str, Any]] = {}
        self._texts: dict[str, tuple[Mapping[str, Any], bytes]] = {}
        """Each document's JSON, with the document that it was made of."""

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        if self._world.may_fail(0.2):
            raise QuarantineError("the disk is full")
        self._texts[name] = document, json.dumps(document, default=str).encode()
        self.documents[name] = document

    def text(self, name: str) -> bytes | None:
        """A document's JSON, if the document is still there."""
        document = self.documents.get(name)
        if document is None:
            return None
        kept = self._texts.get(name)
        if kept is None or kept[0] is not document:
            kept = self._texts[name] = document, json.dumps(document, default=str).encode()
        return kept[1]


class Failures:
    """The failure destination: whole documents as in a bucket, or pointers as in a queue."""

    def __init__(self, world: WorldBase, place: Place) -> None:
        self._world = world
        self._place = place

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        self._place.put(name, document)
        self._world.pointed.pop(name, None)
        if self._world.pointers:
            kept = dict(self._place.documents[name])
            self._world.pointed[name] = kept.pop("payload")
            self._place.documents[name] = kept


class Shelf:
    """The documents in memory, as `ingest.shelves` shows a place; each step may be overtaken, fail or kill."""

    keeps_s: int | None = None
    looking_is_touching = False

    def __init__(self, world: WorldBase) -> None:
        self._world = world

    def count(self) -> int:
        return len(self._world.place.documents)

    def stored(self) -> Iterator[Stored]:
        for name in sorted(self._world.place.documents):
            self._world.at_shelf()
            text = self._world.place.text(name)
            if text is not None:
                yield Stored(name, name, text)

    def replace(self, stored: Stored, document: Mapping[str, Any]) -> None:
        self._world.at_shelf()
        self._world.place.documents[stored.handle] = document

    def take_away(self, stored: Stored) -> None:
        self._world.at_shelf()
        self._world.place.documents.pop(stored.handle, None)

    def close(self) -> None:
        pass
