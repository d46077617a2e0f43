"""The segments of a composite text such as `CUSTOMER#ann@example.org#ORDER#7`, and what becomes of each.

A text that does not have the form which the policy expects is never passed on as it is: `Segments.change` raises
`CannotFollowError`, and the policy drops the value or refuses the row.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

SegmentAction = Literal["keep", "hash", "mask"]
SEGMENT_ACTIONS: Final = frozenset({"keep", "hash", "mask"})

MASK: Final = "***"


class CannotFollowError(Exception):
    """A value does not have the form that a policy's path expects. The text never holds the value."""


@dataclass(frozen=True, slots=True)
class Segments:
    """What becomes of single segments of a text.

    Attributes:
        split: what separates the segments.
        after: prefix -> action for the segment that follows it, as in `{"CUSTOMER": "hash"}`.
        at: action for the segment at this position, counted from 0, or from the end with -1 for the last. It
            takes precedence over `after`.
        others: action for a segment that neither names, unless it is a prefix of `after`.
    """

    split: str
    after: Mapping[str, SegmentAction] = field(default_factory=dict)
    at: Mapping[int, SegmentAction] = field(default_factory=dict)
    others: SegmentAction = "keep"

    @property
    def actions(self) -> set[SegmentAction]:
        """The actions that it uses."""
        return {*self.after.values(), *self.at.values(), self.others}

    def change(self, text: str, hash_of: Callable[[str], str]) -> str:
        """The text with its segments hashed or masked.

        Args:
            text: the text.
            hash_of: the keyed hash of a segment.

        Raises:
            CannotFollowError: the separator is missing, there are fewer segments than `at` names, or a segment
                is a prefix but for its letter case, the spaces around it or the separator behind it.
        """
        parts = text.split(self.split)
        if not text or (len(parts) == 1 and text in self.after and not self._protected):
            return text  # nothing, or a prefix alone, which the policy itself spells out
        actions = self._actions(parts)
        if self.others == "keep":
            self._check(parts, actions)
        return self.split.join(
            hash_of(part) if action == "hash" else MASK if action == "mask" else part
            for part, action in zip(parts, actions, strict=True)
        )

    def _actions(self, parts: Sequence[str]) -> list[SegmentAction]:
        actions: list[SegmentAction] = []
        for position, part in enumerate(parts):
            at = self.at.get(position) or self.at.get(position - len(parts))
            after = self.after.get(parts[position - 1]) if position else None
            # Under `others`, a value that happens to be spelled like a prefix does not open what follows it.
            if after == "keep" and self.others != "keep" and actions[-1] != "keep":
                after = None
            actions.append(at or after or ("keep" if part in self.after else self.others))
        return actions

    def _check(self, parts: Sequence[str], actions: Sequence[SegmentAction]) -> None:
        if any(not -len(parts) <= position < len(parts) for position in self._protected):
            raise CannotFollowError("the text has fewer segments than the policy names")
        if len(parts) == 1 and not self._protected:
            raise CannotFollowError("the text has no separator")
        prefixes = [_folded(prefix) for prefix, action in self.after.items() if action != "keep"]
        kept = [position for position, action in enumerate(actions) if action == "keep"]
        # What precedes a kept segment must not be a prefix in another spelling, even if it is hashed as a value.
        looked_at = {parts[near] for position in kept for near in (position - 1, position) if near >= 0}
        if prefixes and any(_resembles(part, prefixes) for part in looked_at - self.after.keys()):
            raise CannotFollowError(
                "a segment differs from a prefix of the policy in letter case, spaces or the separator after it"
            )

    @property
    def _protected(self) -> set[int]:
        return {position for position, action in self.at.items() if action != "keep"}


def _resembles(part: str, prefixes: list[str]) -> bool:
    """Whether a segment is one of these prefixes but for case and spaces, or has its value behind another separator."""
    text = _folded(part)
    return any(text.startswith(prefix) and not re.match(r"\w", text[len(prefix) :]) for prefix in prefixes)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()
