"""The database of one run, or of many labellers: segments, queries and answers in it.

Takes queries.Query from the loop and Answer from the oracles; reward_training.py fits to what it holds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from prefrl.errors import UserError
from prefrl.preferences import schema
from prefrl.preferences.answers import Answer, check_answer, ranking_from_text, ranking_to_text
from prefrl.preferences.arrays import ARRAYS, OPTIONAL_ARRAYS, check_segment, decode, encode
from prefrl.preferences.connection import Database
from prefrl.preferences.opening import MUJOCO_VERSION, prepare
from prefrl.queries import Query
from prefrl.segments import Segment

Rows = dict[str, list[dict[str, Any]]]  # table -> its rows

_DATA_TABLES = (  # parents first
    *(schema.segments, schema.queries, schema.query_segments, schema.answers),
    *(schema.asked, schema.taken),
)


@dataclass(frozen=True)
class Moment:
    """A point in a training run."""

    run: str  # its key in the database, whatever its folder is called
    env_steps: int


class PreferenceStore:
    """Segments, queries and answers in one database; append-only.

    Several may have the same database open, also in other processes: each reads what the others have committed.
    An answer is safe from a crash or a power cut once add_answers has returned.

    Args:
        url_or_path: a file path (SQLite; created when new, in a folder that exists), postgresql://USER@HOST/NAME
            or another SQLAlchemy URL. A database of an older prefrl is brought up to date, with a copy kept.
        task: name of the task that new segments come from; checked against what the database says it holds.

    Attributes:
        created: when the database was, in ISO 8601; tells it from another one in the same place.

    Raises:
        UserError: not a preference store, written by a newer version, or of another task. It is left as it is.
    """

    def __init__(self, url_or_path: str | PathLike[str], task: str | None = None) -> None:
        self._segment_ids: WeakKeyDictionary[Segment, int] = WeakKeyDictionary()  # by identity, not by content
        self._database = Database(fspath(url_or_path))
        self.transaction = self._database.transaction  # for what reads or writes other tables with these
        self.location = self._database.location
        try:
            meta = prepare(self._database, task)
        except BaseException:
            self.close()
            raise
        self.task = meta.get("task")
        self.created = meta.get("created", "")

    def add_queries(self, queries: Sequence[Query], asked: Moment | None = None) -> list[Query]:
        """Store queries with their segments, all or none, and return them with their ids.

        A Segment object that this store has seen before, in this call or an earlier one, is not stored again.

        Args:
            queries: to store.
            asked: when the run that asks them does so.

        Raises:
            UserError: a query has an id already, or a segment's arrays disagree in length or are not finite.
        """
        for query in queries:
            if query.id is not None:
                raise UserError(
                    f"query {query.id} is stored already; add dataclasses.replace(query, id=None) to copy it"
                )
        unseen = dict.fromkeys(s for query in queries for s in query.segments if s not in self._segment_ids)
        with self.transaction(writes=True) as connection:
            segment_ids = _insert(connection, schema.segments, [self._segment_row(segment) for segment in unseen])
            added = dict(zip(unseen, segment_ids, strict=True))
            query_ids = _insert(connection, schema.queries, [{"created_at": time.time()} for _ in queries])
            links = [
                {
                    "query_id": query_id,
                    "position": position,
                    "segment_id": added[segment] if segment in added else self._segment_ids[segment],
                }
                for query, query_id in zip(queries, query_ids, strict=True)
                for position, segment in enumerate(query.segments)
            ]
            if links:
                connection.execute(sa.insert(schema.query_segments), links)
            if asked is not None:
                _record(connection, schema.asked, query_ids, asked)
        self._segment_ids.update(added)
        return [query.with_id(query_id) for query, query_id in zip(queries, query_ids, strict=True)]

    def add_answers(self, answers: Sequence[Answer], taken: Moment | None = None) -> list[Answer]:
        """Store answers, all or none, and return them with their ids; they are safe once this returns.

        Args:
            answers: to store.
            taken: when a run takes them, if it does so at once.

        Raises:
            UserError: an unknown query, a ranking of the wrong size, or superseding what can't be.
        """
        with self.transaction(writes=True) as connection:
            stored = self.insert_answers(connection, answers)
            if taken is not None:
                _record(connection, schema.taken, [answer.id for answer in stored if answer.id], taken)
        return stored

    def insert_answers(self, connection: sa.Connection, answers: Sequence[Answer]) -> list[Answer]:
        """As add_answers, within a `transaction` of the caller's that writes; they are safe once that has ended."""
        query_ids = sorted({int(answer.query_id) for answer in answers})
        replaced = sorted({int(answer.supersedes) for answer in answers if answer.supersedes is not None})
        shown_in = schema.query_segments.c.query_id
        sizes = sa.select(shown_in, sa.func.count()).group_by(shown_in)
        size_of = {row[0]: row[1] for row in _rows(connection, sizes, shown_in, query_ids)}
        earlier = sa.select(schema.answers.c.id, schema.answers.c.query_id)
        query_of = {row[0]: row[1] for row in _rows(connection, earlier, schema.answers.c.id, replaced)}
        later = sa.select(schema.answers.c.supersedes, schema.answers.c.id)
        successor_of: dict[int, int | None] = {
            row[0]: row[1] for row in _rows(connection, later, schema.answers.c.supersedes, replaced)
        }
        for answer in answers:
            check_answer(answer, self.location, size_of, query_of, successor_of)
            if answer.supersedes is not None:
                successor_of[answer.supersedes] = None  # by one of this call, which has no id yet
        ids = _insert(connection, schema.answers, [_answer_row(answer) for answer in answers])
        return [replace(answer, id=answer_id) for answer, answer_id in zip(answers, ids, strict=True)]

    def answer_of(self, connection: sa.Connection, answer_id: int) -> Answer:
        """The stored answer of that id, within a `transaction` of the caller's."""
        return _answer(connection.execute(sa.select(schema.answers).where(schema.answers.c.id == answer_id)).one())

    def queries(self, ids: Sequence[int] | None = None) -> list[Query]:
        """The queries of these ids in the order given; all of them, oldest first, by default.

        A segment that several of them show is one Segment object in all of them.

        Raises:
            UserError: an id is unknown, or a stored array is not what its dtype and shape say.
        """
        wanted = None if ids is None else list(dict.fromkeys(int(query_id) for query_id in ids))
        with self.transaction() as connection:
            link = schema.query_segments.c
            in_order = sa.select(schema.query_segments).order_by(link.query_id, link.position)
            links = _rows(connection, in_order, link.query_id, wanted)
            shown = None if wanted is None else sorted({row.segment_id for row in links})
            rows = _rows(connection, sa.select(schema.segments), schema.segments.c.id, shown)
        segments = {row.id: self._segment(row._mapping) for row in rows}
        segments_of: dict[int, list[Segment]] = {}
        for row in links:
            if row.segment_id in segments:
                segments_of.setdefault(row.query_id, []).append(segments[row.segment_id])
        for query_id, shown_there in segments_of.items():
            if len(shown_there) < 2:
                raise UserError(f"query {query_id} in {self.location} lost segments; restore the file from a copy")
        for query_id in wanted or ():
            if query_id not in segments_of:
                raise UserError(f"query {query_id} is not in {self.location}; queries() lists those that are")
        return [Query(tuple(segments_of[query_id]), id=query_id) for query_id in (segments_of if ids is None else ids)]

    def answers(self, include_superseded: bool = False) -> list[Answer]:
        """The answers that count, in the order in which they came; on request also those superseded since."""
        statement = sa.select(schema.answers).order_by(schema.answers.c.id)
        if not include_superseded:
            statement = statement.where(~_is_superseded())
        with self.transaction() as connection:
            rows = connection.execute(statement).all()
        return [_answer(row) for row in rows]

    def record_asked(self, query_ids: Sequence[int], when: Moment) -> None:
        """Note that a run asked these queries, which are stored already; what was noted of them before gives way."""
        self._record(schema.asked, query_ids, when)

    def record_taken(self, answer_ids: Sequence[int], when: Moment) -> None:
        """Note that a run took these answers; what was noted of them before gives way."""
        self._record(schema.taken, answer_ids, when)

    def _record(self, table: sa.Table, ids: Sequence[int], when: Moment) -> None:
        if ids:
            with self.transaction(writes=True) as connection:
                _record(connection, table, ids, when)

    def asked_by(self, run: str) -> dict[int, int]:
        """The ids of the queries that a run asked, oldest first, with its environment steps then."""
        return self._steps(schema.asked, schema.asked.c.query_id, run)

    def taken_by(self, run: str) -> dict[int, int]:
        """The ids of the answers that a run took, with its environment steps then; in the order of both."""
        return self._steps(schema.taken, schema.taken.c.answer_id, run)

    def _steps(self, table: sa.Table, column: sa.ColumnElement[int], run: str) -> dict[int, int]:
        statement = sa.select(column, table.c.env_steps).where(table.c.run == run).order_by(table.c.env_steps, column)
        with self.transaction() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def not_taken_by(self, run: str) -> list[Answer]:
        """Answers to what a run asked that it has not taken yet, oldest first; also those superseded since."""
        taken = sa.exists().where(schema.taken.c.run == run, schema.taken.c.answer_id == schema.answers.c.id)
        statement = (
            sa.select(schema.answers)
            .join(schema.asked, schema.asked.c.query_id == schema.answers.c.query_id)
            .where(schema.asked.c.run == run, ~taken)
            .order_by(schema.answers.c.id)
        )
        with self.transaction() as connection:
            return [_answer(row) for row in connection.execute(statement)]

    def runs(self) -> dict[str, int]:
        """The runs that took answers from here, with the number of them."""
        statement = sa.select(schema.taken.c.run, sa.func.count()).group_by(schema.taken.c.run)
        with self.transaction() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def unanswered(self) -> list[Query]:
        """Queries that nobody has answered yet, oldest first. "Can't tell" is an answer."""
        with self.transaction() as connection:
            query_id = schema.queries.c.id
            ids = connection.scalars(sa.select(query_id).where(~_is_answered()).order_by(query_id)).all()
        return self.queries(ids)

    def segment_ids(self, query_ids: Sequence[int] | None = None, newer_than: int = 0) -> dict[int, list[int]]:
        """Ids of the segments that queries show, in their order, by query; nothing of them is read.

        Args:
            query_ids: of the queries; all of them by default.
            newer_than: id of a query; of those that came after it only.
        """
        link = schema.query_segments.c
        in_order = sa.select(schema.query_segments).order_by(link.query_id, link.position)
        wanted = None if query_ids is None else sorted(set(query_ids))
        with self.transaction() as connection:
            rows = _rows(connection, in_order.where(link.query_id > newer_than), link.query_id, wanted)
        shown: dict[int, list[int]] = {query_id: [] for query_id in query_ids or ()}
        for row in rows:
            shown.setdefault(row.query_id, []).append(row.segment_id)
        return shown

    def counts(self) -> dict[str, int]:
        """How many segments, queries, answered and unanswered queries, current answers and superseded answers."""
        with self.transaction() as connection:

            def count(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
                return connection.execute(sa.select(sa.func.count()).select_from(table).where(*conditions)).scalar_one()

            return {
                "segments": count(schema.segments),
                "queries": count(schema.queries),
                "answered": count(schema.queries, _is_answered()),
                "unanswered": count(schema.queries, ~_is_answered()),
                "answers": count(schema.answers, ~_is_superseded()),
                "superseded": count(schema.answers, _is_superseded()),
            }

    def rows(self) -> Rows:
        """Segments, queries and answers as they lie in the database, by table and in the order of their ids."""
        with self.transaction() as connection:
            return {
                table.name: [
                    dict(row)
                    for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings()
                ]
                for table in _DATA_TABLES
            }

    def add_rows(self, rows: Rows) -> None:
        """Add what `rows` gave, under the ids it had, all or none; the caller has checked it, and the file is new."""
        with self.transaction(writes=True) as connection:
            for table in _DATA_TABLES:
                if rows[table.name]:
                    connection.execute(sa.insert(table), rows[table.name])

    def close(self) -> None:
        """Let go of the database; everything added is in it already."""
        self._database.close()

    def __enter__(self) -> PreferenceStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _segment_row(self, segment: Segment) -> dict[str, object]:
        check_segment(segment, f"a segment recorded at {segment.env_steps} environment steps")
        row: dict[str, object] = {
            "task": self.task,
            "mujoco_version": None if segment.qpos is None else MUJOCO_VERSION,
            "env_steps": int(segment.env_steps),
            "length": segment.length,
            "true_return": segment.true_return,
        }
        for name in ARRAYS:
            array = getattr(segment, name)
            row[name], row[f"{name}_dtype"], row[f"{name}_shape"] = (None,) * 3 if array is None else encode(array)
        return row

    def _segment(self, row: sa.RowMapping) -> Segment:
        where = f"segment {row['id']} in {self.location}"
        arrays: dict[str, Any] = {
            name: decode(row[name], row[f"{name}_dtype"], row[f"{name}_shape"], f"{where}: {name}")
            for name in ARRAYS
            if name not in OPTIONAL_ARRAYS or row[name] is not None
        }
        segment = Segment(**arrays, env_steps=row["env_steps"])
        check_segment(segment, where)
        self._segment_ids[segment] = row["id"]
        return segment


def open_existing(url_or_path: str, task: str | None = None) -> PreferenceStore:
    """A store that must be there already, to read or to go on with.

    Raises:
        UserError: it does not exist, or PreferenceStore refuses it.
    """
    if "://" not in url_or_path and not Path(url_or_path).is_file():
        raise UserError(f"{url_or_path} does not exist; give the preferences.db of a run, or the URL of a store")
    return PreferenceStore(url_or_path, task=task)


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, object]]) -> list[int]:
    """Insert the rows and return their ids in the same order."""
    if not rows:
        return []
    return list(connection.scalars(sa.insert(table).returning(table.c.id, sort_by_parameter_order=True), rows))


def _rows(
    connection: sa.Connection,
    statement: sa.Select[*tuple[Any, ...]],
    column: sa.ColumnElement[Any],
    values: Sequence[int] | None,
) -> list[sa.Row[*tuple[Any, ...]]]:
    """Rows whose column is one of the values (None: any), asked for in batches below every database's limit."""
    if values is None:
        return list(connection.execute(statement))
    batches = (values[start : start + 500] for start in range(0, len(values), 500))
    return [row for batch in batches for row in connection.execute(statement.where(column.in_(batch)))]


def _is_answered() -> sa.ColumnElement[bool]:
    return sa.exists().where(schema.answers.c.query_id == schema.queries.c.id)


def _is_superseded() -> sa.ColumnElement[bool]:
    later = schema.answers.alias("later")
    return sa.exists().where(later.c.supersedes == schema.answers.c.id)


def _record(connection: sa.Connection, table: sa.Table, ids: Sequence[int], when: Moment) -> None:
    _, column, _ = table.columns
    wanted = [int(each) for each in ids]
    for start in range(0, len(wanted), 500):
        batch = wanted[start : start + 500]
        connection.execute(sa.delete(table).where(table.c.run == when.run, column.in_(batch)))
        rows = [{"run": when.run, column.name: each, "env_steps": int(when.env_steps)} for each in batch]
        connection.execute(sa.insert(table), rows)


def _answer(row: sa.Row[*tuple[Any, ...]]) -> Answer:
    return Answer(
        query_id=row.query_id,
        ranking=ranking_from_text(row.ranking),
        labeller=row.labeller,
        shown_at=row.shown_at,
        answered_at=row.answered_at,
        replays=row.replays,
        supersedes=row.supersedes,
        id=row.id,
    )


def _answer_row(answer: Answer) -> dict[str, object]:
    return {
        "query_id": int(answer.query_id),
        "ranking": ranking_to_text(answer.ranking),
        "labeller": answer.labeller,
        "shown_at": float(answer.shown_at),
        "answered_at": float(answer.answered_at),
        "replays": int(answer.replays),
        "supersedes": None if answer.supersedes is None else int(answer.supersedes),
    }
