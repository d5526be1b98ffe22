"""`prefrl answer`: a scripted oracle answers the queries that a database holds, beside whoever answered them before.

So that oracles and people can be compared on the same questions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import tyro

from prefrl.config import Count, OracleOptions
from prefrl.errors import UserError
from prefrl.preferences import open_existing
from prefrl.tasks import TASKS


@dataclass(frozen=True)
class AnswerOptions:
    """Let a scripted oracle answer every query of a database, under a name of its own."""

    store: tyro.conf.Positional[str]
    """RUN/preferences.db, or another store of preferences by its path or URL"""
    labeller: str | None = None
    """name of the oracle in the database; reward or judge by default"""
    seed: Count = 0
    """of the oracle's mistakes"""
    oracle: OracleOptions = field(default_factory=OracleOptions)


def answer(options: AnswerOptions) -> Counter[str]:
    """Answer all queries in the order in which they were asked, all or none.

    Returns:
        how often each choice was made.

    Raises:
        UserError: there is nothing to answer, the name is taken, or the oracle cannot judge these segments.
    """
    with open_existing(options.store) as store:
        queries, labeller = store.queries(), options.labeller or options.oracle.score
        if not queries:
            raise UserError(f"{store.location} holds no query to answer; name the database of a run that asked some")
        taken = sum(given.labeller == labeller for given in store.answers(include_superseded=True))
        if taken:
            raise UserError(
                f"{store.location} holds {taken} answers of {labeller!r} already; give the oracle another --labeller"
            )
        oracle = options.oracle.make(TASKS.get(store.task or ""), options.seed, labeller)
        oracle.submit(queries)
        return Counter(given.choice for given in store.add_answers(oracle.collect()))
