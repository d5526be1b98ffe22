"""Keep what was asked and what was answered: the database D of triples (σ¹, σ², μ) (section 2.2.2).

Takes queries.Query from the loop and Answer from the oracles; reward_training.py fits to what it holds.
One SQLite file per run by default, PostgreSQL by its URL for many labellers. No query and no answer is ever changed or
deleted, and reading a file from a stranger executes nothing: arrays are plain bytes beside their dtype and shape.
"""

from prefrl.preferences.answers import (
    CANT_TELL,
    CHOICES,
    SKIP,
    SKIPPED,
    Answer,
    Ranking,
    ranking_from_text,
    ranking_to_text,
)
from prefrl.preferences.connection import without_password
from prefrl.preferences.store import Moment, PreferenceStore, Rows, open_existing

__all__ = [
    "CANT_TELL",
    "CHOICES",
    "SKIP",
    "SKIPPED",
    "Answer",
    "Moment",
    "PreferenceStore",
    "Ranking",
    "Rows",
    "open_existing",
    "ranking_from_text",
    "ranking_to_text",
    "without_password",
]
