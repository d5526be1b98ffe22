"""Who answers queries: synthetic oracles at once, people later; the loop is the same for both.

Takes queries.Query as the PreferenceStore returned them, with ids; gives preferences.Answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prefrl.preferences import Answer
from prefrl.queries import Query


class Oracle(Protocol):
    """Anything that can be asked and, sooner or later, answers.

    It keeps nothing across an interruption: what it has not answered by then it is asked again.

    Attributes:
        others_answer: a run that asks it also learns from what others answer, straight into the store.
    """

    others_answer: bool

    def submit(self, queries: Sequence[Query]) -> None:
        """Ask stored queries; returns at once, whether or not they are answered yet."""

    def recall(self, queries: Sequence[Query]) -> None:
        """Look at stored queries that are answered already, by this oracle or another, and answer nothing."""

    def collect(self) -> list[Answer]:
        """The answers that have come in since the last call, each once; an empty list if there are none."""


class Nobody:
    """Answers nothing: what there is to learn from stands in the store, or comes to it from elsewhere."""

    others_answer = True

    def submit(self, queries: Sequence[Query]) -> None:
        """Leave them to others."""

    def recall(self, queries: Sequence[Query]) -> None:
        """Look at nothing."""

    def collect(self) -> list[Answer]:
        """None."""
        return []
