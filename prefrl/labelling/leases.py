"""Who is shown which query: leases of queries to labellers, several of whom may label at once.

Gives labellers their next queries and takes their answers; the trainer hears of those through the store alone. A lease
that nobody answers in time lapses, and its query is free again. Everything happens in the store's own transactions, of
which those that write take turns: so two labellers or two servers never give the same turn away, and an answer that is
sent twice counts once.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa

from prefrl.errors import UserError
from prefrl.labelling.options import LeaseOptions
from prefrl.labelling.unfinished import Unfinished, is_pair
from prefrl.preferences import SKIPPED, Answer, PreferenceStore, ranking_to_text, schema

PICTURES_LOST = "nobody: pictures lost"  # in place of a labeller's name, where a query cannot be shown any longer
RENEWED = 0.75  # share of a lease's time below which it is renewed: each renewal waits for the disk
GOLD_AHEAD = 10  # gold queries made ready beyond what the labeller who saw most of them has seen


@dataclass(frozen=True)
class Viewing:
    """How an answer came about, by the clock of the page; milliseconds since it was loaded."""

    shown_ms: float  # when both clips played
    answered_ms: float
    active_ms: float  # in between, while the page was in view
    speed: float  # of playback; 1 is the task's own
    page_version: str


@dataclass(frozen=True)
class Lease:
    """A query that one labeller is to answer."""

    id: int
    query_id: int
    labeller_id: int
    kind: str  # first, repeat, gold or undo
    swapped: bool  # the query's segments are shown in reverse order
    expires_at: float  # unix seconds
    supersedes: int | None  # the answer that this one takes the place of, after undo
    answer_id: int | None  # once it is answered


class LeaseGone(UserError):
    """A lease that lapsed and whose query has gone to somebody else, or of somebody else."""


def plain_name(text: str) -> str:
    """A labeller's name as it is stored, with one blank for whatever space there is.

    Raises:
        UserError: it is none.
    """
    name = " ".join(text.split())
    if not 1 <= len(name) <= 80 or re.search("[\0-\x1f\x7f-\x9f\ud800-\udfff]", name):
        raise UserError(f"a name has 1 to 80 characters of plain text, not {len(name)}")
    return name


class Leases:
    """The queries of one store, shared out among labellers.

    Args:
        store: of the queries.
        options: how they are shared out.
        seed: of the sides on which segments are shown, and of which queries more than one labeller gets.
    """

    def __init__(self, store: PreferenceStore, options: LeaseOptions | None = None, seed: int = 0) -> None:
        self.store, self.options, self._seed = store, options or LeaseOptions(), seed
        self._unfinished = Unfinished(self.capacity)
        self._names: dict[int, str] = {}

    def join(self, name: str, consent: str, now: float) -> int:
        """The id of the labeller of that name, new or known.

        Raises:
            UserError: the name is none.
        """
        name, labellers = plain_name(name), schema.labellers
        with self.store.transaction(writes=True) as connection:
            known = connection.scalar(sa.select(labellers.c.id).where(labellers.c.name == name))
            if known is not None:
                connection.execute(sa.update(labellers).where(labellers.c.id == known).values(consent=consent))
                return int(known)
            row = {"name": name, "consent": consent, "joined_at": now}
            return int(connection.scalars(sa.insert(labellers).returning(labellers.c.id), row).one())

    def name_of(self, labeller_id: int) -> str | None:
        """The name under which somebody joined; None if nobody did."""
        labellers = schema.labellers.c
        if labeller_id not in self._names:  # asked with every request, and never changed
            with self.store.transaction() as connection:
                name = connection.scalar(sa.select(labellers.name).where(labellers.id == labeller_id))
            if name is None:
                return None
            self._names[labeller_id] = name
        return self._names[labeller_id]

    def answered(self, labeller_id: int) -> int:
        """Answers of a labeller, an undone one counting once with what took its place."""
        leases = schema.leases.c
        mine = sa.and_(leases.labeller_id == labeller_id, leases.answer_id.is_not(None), leases.kind != "undo")
        with self.store.transaction() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).where(mine)) or 0)

    def counts(self) -> tuple[int, int]:
        """How many pairs there are, and how many of them labellers have answered or nobody can be shown any longer."""
        query_id, leases, answers = schema.queries.c.id, schema.leases.c, schema.answers.c
        answered = sa.exists().where(leases.query_id == query_id, leases.answer_id.is_not(None))
        lost = sa.exists().where(answers.query_id == query_id, answers.labeller == PICTURES_LOST)
        pairs = sa.select(sa.func.count()).select_from(schema.queries).where(is_pair(query_id))
        with self.store.transaction() as connection:
            settled = connection.execute(pairs.where(sa.or_(answered, lost))).scalar_one()
            return connection.execute(pairs).scalar_one(), settled

    def take(self, labeller_id: int, count: int, ready: Container[int], now: float) -> list[Lease]:
        """The next queries for a labeller, at most `count`: what they have open already, then new ones.

        Newest first: what the policy does now teaches more than what it did when they began to label. What they have
        open is renewed, as their page is there. A lease of theirs that lapsed is renewed too rather than given anew, so
        that another tab which still shows it can't answer it twice.

        Args:
            labeller_id: from `join`.
            count: of leases that the labeller is to have.
            ready: holds the ids of the queries that can be shown, as their clips are there.
            now: unix seconds.
        """
        with self.store.transaction(writes=True) as connection:
            leases = self._leases(connection, schema.leases.c.labeller_id == labeller_id)
            soon = now + RENEWED * self.options.lease_seconds
            open_ids = [lease.id for lease in leases if lease.answer_id is None and now < lease.expires_at < soon]
            kept = {lease.id: lease for lease in self._renew(connection, open_ids, now)}
            leases = [kept.get(lease.id, lease) for lease in leases]
            mine = [lease for lease in leases if lease.answer_id is not None or lease.expires_at > now]
            unanswered = (lease for lease in mine if lease.answer_id is None and lease.kind != "undo")
            open_now = [lease for lease in unanswered if lease.query_id in ready][:count]
            wanted = count - len(open_now)
            if wanted <= 0:
                return open_now
            busy = {lease.query_id for lease in mine}
            gold = self._gold(connection)
            free = (q for q in self._free(connection, gold, now) if q not in busy and q in ready)
            chosen = [("first", q, self._first_swapped(q, labeller_id)) for q in itertools.islice(free, wanted)]
            if (known := self._due_gold(mine, gold, ready)) is not None:
                chosen = [*chosen[: wanted - 1], ("gold", known, self._first_swapped(known, labeller_id))]
            elif (again := self._due_repeat(mine, ready)) is not None:
                chosen = [*chosen[: wanted - 1], ("repeat", again.query_id, not again.swapped)]
            lapsed = {
                (lease.kind, lease.query_id): lease.id
                for lease in leases
                if lease.answer_id is None and lease.expires_at <= now
            }
            renewed = [lapsed[kind, query_id] for kind, query_id, _ in chosen if (kind, query_id) in lapsed]
            rows = [
                {"query_id": query_id, "labeller_id": labeller_id, "kind": kind, "swapped": swapped}
                for kind, query_id, swapped in chosen
                if (kind, query_id) not in lapsed
            ]
            return open_now + self._renew(connection, renewed, now) + self._add(connection, rows, now)

    def wanted(self, now: float, ahead: int, hopeless: Container[int] = ()) -> list[int]:
        """Ids of the queries that will be shown next: what labellers have open, then new ones, then gold ones.

        Args:
            now: unix seconds.
            ahead: of the new ones, at most so many.
            hopeless: holds the ids of those that can't be shown.
        """
        leases = schema.leases.c
        is_open = sa.and_(leases.answer_id.is_(None), leases.expires_at > now)
        seen = sa.select(sa.func.count()).where(leases.kind == "gold").group_by(leases.labeller_id)
        with self.store.transaction() as connection:
            open_now = connection.scalars(sa.select(leases.query_id).where(is_open).order_by(leases.id)).all()
            gold = self._gold(connection)
            free = itertools.islice((q for q in self._free(connection, gold, now) if q not in hopeless), ahead)
            known = list(gold)[: max(connection.scalars(seen), default=0) + GOLD_AHEAD]
            return [q for q in dict.fromkeys([*open_now, *free, *known]) if q not in hopeless]

    def answer(
        self, lease_id: int, labeller_id: int, answer: Answer, now: float, viewing: Viewing | None = None
    ) -> Answer:
        """Store what a labeller said; sent again, it is the same answer.

        Args:
            lease_id: of `take` or `undo`.
            labeller_id: whose it must be.
            answer: its query_id and supersedes are taken from the lease; its ranking is of what was on screen.
            now: unix seconds.
            viewing: how it came about.

        Raises:
            LeaseGone: it is somebody else's, or it lapsed and its query has gone to others since.
        """
        with self.store.transaction(writes=True) as connection:
            found = self._leases(connection, schema.leases.c.id == lease_id)
            if not found or found[0].labeller_id != labeller_id:
                raise LeaseGone(f"lease {lease_id} is not yours; load the page again")
            lease = found[0]
            if lease.answer_id is not None:
                return self.store.answer_of(connection, lease.answer_id)
            lapsed = lease.kind == "first" and lease.expires_at <= now
            if lapsed and self._held(connection, lease.query_id, now) >= self.capacity(lease.query_id):
                raise LeaseGone(f"query {lease.query_id} has gone to somebody else meanwhile")
            if lease.supersedes is not None:
                later = sa.select(schema.answers.c.id).where(schema.answers.c.supersedes == lease.supersedes)
                if connection.scalar(later) is not None:
                    raise LeaseGone(f"answer {lease.supersedes} has been changed already")
            ranking = answer.ranking
            if lease.swapped and ranking:
                last = sum(map(len, ranking)) - 1
                ranking = tuple(tuple(last - position for position in tied) for tied in ranking)
            said = replace(answer, query_id=lease.query_id, ranking=ranking, supersedes=lease.supersedes)
            (stored,) = self.store.insert_answers(connection, [said])
            connection.execute(
                sa.update(schema.leases).where(schema.leases.c.id == lease_id).values(answer_id=stored.id)
            )
            if viewing is not None:
                connection.execute(sa.insert(schema.viewings), {"answer_id": stored.id, **asdict(viewing)})
            return stored

    def undo(self, labeller_id: int, before: int | None, now: float) -> Lease | None:
        """A lease to answer anew what a labeller answered last, as it was shown then; None if there is nothing left.

        Args:
            labeller_id: whose answers.
            before: id of an answer; the one before that is taken back. Undo after undo goes back through all of them.
            now: unix seconds.
        """
        with self.store.transaction(writes=True) as connection:
            mine = self._leases(connection, schema.leases.c.labeller_id == labeller_id)
            supersedes = schema.answers.c.supersedes
            replaced = set(connection.scalars(sa.select(supersedes).where(supersedes.is_not(None))))
            standing = [
                lease
                for lease in mine
                if lease.answer_id is not None
                and lease.answer_id not in replaced
                and (before is None or lease.answer_id < before)
            ]
            if not standing:
                return None
            last = max(standing, key=lambda lease: lease.answer_id or 0)
            for lease in mine:  # the same once more, as after a reload
                if lease.supersedes == last.answer_id:
                    return lease if lease.expires_at > now else self._renew(connection, [lease.id], now)[0]
            row = {"query_id": last.query_id, "labeller_id": labeller_id, "kind": "undo", "swapped": last.swapped}
            return self._add(connection, [{**row, "supersedes": last.answer_id}], now)[0]

    def capacity(self, query_id: int) -> int:
        """How many labellers a query is for."""
        return 1 + (self._draw(query_id, 0) < self.options.overlap)

    def _first_swapped(self, query_id: int, labeller_id: int) -> bool:
        return self._draw(query_id, labeller_id) < 0.5

    def _draw(self, *key: int) -> float:
        """The same number in [0, 1) whenever and in whatever process it is drawn."""
        digest = hashlib.blake2b(repr((self._seed, *key)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") / 2**64

    def _free(self, connection: sa.Connection, gold: Container[int], now: float) -> Iterator[int]:
        """Queries that still need a labeller, newest first."""
        leases = schema.leases.c
        is_open = sa.and_(leases.answer_id.is_(None), leases.expires_at > now, leases.kind != "gold")
        about_to: dict[int, set[int]] = {}
        for query_id, labeller_id in connection.execute(sa.select(leases.query_id, leases.labeller_id).where(is_open)):
            about_to.setdefault(query_id, set()).add(labeller_id)
        for query_id, answered in reversed(self._unfinished.read(connection)):
            held = answered | about_to[query_id] if query_id in about_to else answered
            if query_id not in gold and len(held) < self.capacity(query_id):
                yield query_id

    def _gold(self, connection: sa.Connection) -> dict[int, None]:
        """Queries whose answer is known, oldest first."""
        if self.options.gold is None:
            return {}
        answers = schema.answers.c
        later = schema.answers.alias("later")
        stands = ~sa.exists().where(later.c.supersedes == answers.id)
        decided = answers.ranking.not_in([ranking_to_text(None), ranking_to_text(SKIPPED)])
        is_gold = sa.and_(answers.labeller == self.options.gold, stands, decided, is_pair(answers.query_id))
        return dict.fromkeys(connection.scalars(sa.select(answers.query_id).where(is_gold).order_by(answers.query_id)))

    def _due_gold(self, mine: list[Lease], gold: dict[int, None], ready: Container[int]) -> int | None:
        """A query with a known answer that this labeller has not seen, if it is time for one."""
        seen = {lease.query_id for lease in mine}
        shown = sum(lease.kind == "gold" for lease in mine)
        if shown >= self.options.gold_share * sum(lease.kind == "first" for lease in mine):
            return None
        return next((query_id for query_id in gold if query_id not in seen and query_id in ready), None)

    def _due_repeat(self, mine: list[Lease], ready: Container[int]) -> Lease | None:
        """An answer of before that is to be asked for again with the sides swapped, if it is time for one."""
        answered = [lease for lease in mine if lease.answer_id is not None and lease.kind == "first"]
        repeated = {lease.query_id for lease in mine if lease.kind == "repeat"}
        if len(repeated) >= int(self.options.repeat * len(answered)):
            return None
        old = answered[: -self.options.repeat_after] if self.options.repeat_after else answered
        return next((lease for lease in old if lease.query_id in ready and lease.query_id not in repeated), None)

    def _held(self, connection: sa.Connection, query_id: int, now: float) -> int:
        """How many labellers have answered a query or are about to."""
        leases = schema.leases.c
        of_it = sa.and_(leases.query_id == query_id, leases.kind != "gold")
        holds = sa.or_(leases.answer_id.is_not(None), leases.expires_at > now)
        return connection.execute(
            sa.select(sa.func.count(sa.distinct(leases.labeller_id))).where(of_it, holds)
        ).scalar_one()

    def _leases(self, connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[Lease]:
        rows = connection.execute(sa.select(schema.leases).where(condition).order_by(schema.leases.c.id))
        return [
            Lease(
                *(row.id, row.query_id, row.labeller_id, row.kind, row.swapped),
                *(row.expires_at, row.supersedes, row.answer_id),
            )
            for row in rows
        ]

    def _add(self, connection: sa.Connection, rows: list[dict[str, object]], now: float) -> list[Lease]:
        if not rows:
            return []
        times = {"leased_at": now, "expires_at": now + self.options.lease_seconds}
        insert = sa.insert(schema.leases).returning(schema.leases.c.id, sort_by_parameter_order=True)
        ids = list(connection.scalars(insert, [{**row, **times} for row in rows]))
        return self._leases(connection, schema.leases.c.id.in_(ids))

    def _renew(self, connection: sa.Connection, ids: Sequence[int], now: float) -> list[Lease]:
        if not ids:
            return []
        these = schema.leases.c.id.in_(ids)
        connection.execute(sa.update(schema.leases).where(these).values(expires_at=now + self.options.lease_seconds))
        return self._leases(connection, these)
