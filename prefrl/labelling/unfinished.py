"""Which queries labellers have not finished with, read from the store a little at a time. Used by leases.py."""

from __future__ import annotations

import threading
from collections.abc import Callable

import sqlalchemy as sa

from prefrl.preferences import schema


class Unfinished:
    """The queries that fewer labellers have answered than they are for, and by whom.

    Nothing that is committed is ever changed back, and ids rise in the order of the commits: so each time only what is
    new has to be read, however many queries are answered already.
    """

    def __init__(self, capacity: Callable[[int], int]) -> None:
        self._capacity = capacity
        self._answered: dict[int, set[int]] = {}  # by query, in the order of their ids: labellers
        self._newest = self._heard = 0  # query, answer
        self._turn = threading.Lock()

    def read(self, connection: sa.Connection) -> list[tuple[int, set[int]]]:
        """Queries and who has answered them, oldest first; in a transaction that has written none of either."""
        queries, leases = schema.queries.c.id, schema.leases.c
        new = sa.select(queries).where(queries > self._newest, is_pair(queries)).order_by(queries)
        is_first = sa.and_(leases.answer_id > self._heard, leases.kind == "first")
        said = sa.select(leases.answer_id, leases.query_id, leases.labeller_id).where(is_first)
        with self._turn:
            for query_id in connection.scalars(new):
                self._answered[query_id] = set()
                self._newest = query_id
            for answer_id, query_id, labeller_id in connection.execute(said.order_by(leases.answer_id)):
                self._heard = answer_id
                if query_id in self._answered:
                    self._answered[query_id].add(labeller_id)
                    if len(self._answered[query_id]) >= self._capacity(query_id):
                        del self._answered[query_id]
            return list(self._answered.items())


def is_pair(query_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether a query shows two segments, as the page does."""
    link = schema.query_segments.c
    return ~sa.exists().where(link.query_id == query_id, link.position > 1)
