"""Who is shown which query: nothing twice, nothing lost, whoever comes and goes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from stores import Database, Databases, make_answer, make_query

from prefrl.errors import UserError
from prefrl.labelling.leases import Lease, LeaseGone, Leases, Viewing
from prefrl.labelling.options import LeaseOptions
from prefrl.preferences import Answer, PreferenceStore

PLAIN = LeaseOptions(repeat=0.0)


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    made = databases.new()
    yield made
    databases.drop(made)


@pytest.fixture
def store(database: Database) -> Iterator[PreferenceStore]:
    with PreferenceStore(database.location) as opened:
        opened.add_queries([make_query(seed) for seed in range(6)])
        yield opened


READY = range(1, 7)


def said(choice: str = "left") -> Answer:
    return make_answer(1, choice)


def ids(leases: list[Lease]) -> list[int]:
    return [lease.query_id for lease in leases]


def test_each_query_goes_to_one_labeller_newest_first(store: PreferenceStore) -> None:
    leases = Leases(store, PLAIN)
    ann, bob = leases.join("Ann", "v1", 0.0), leases.join("Bob", "v1", 0.0)
    assert ids(leases.take(ann, 2, READY, 1.0)) == [6, 5]
    assert ids(leases.take(bob, 3, READY, 1.0)) == [4, 3, 2]
    assert ids(leases.take(ann, 5, READY, 1.0)) == [6, 5, 1], "what they had open, and what is left"
    assert leases.take(bob, 9, [1, 2], 1.0)[0].query_id == 2, "only what can be shown"


def test_who_comes_again_under_the_same_name_has_what_they_had(store: PreferenceStore) -> None:
    leases = Leases(store, PLAIN)
    ann = leases.join(" Ann  Lee ", "v1", 0.0)
    before = leases.take(ann, 2, READY, 1.0)
    assert leases.join("Ann Lee", "v2", 5.0) == ann
    assert leases.take(ann, 2, READY, 6.0) == before


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "a\0b", "\x1b[31m", "\ud800"])
def test_a_name_that_is_none_is_refused(store: PreferenceStore, name: str) -> None:
    with pytest.raises(UserError, match="a name has 1 to 80 characters"):
        Leases(store).join(name, "v1", 0.0)


def test_a_lease_lapses_and_is_kept_while_the_page_is_there(store: PreferenceStore) -> None:
    leases = Leases(store, PLAIN)
    ann, bob = leases.join("Ann", "v1", 0.0), leases.join("Bob", "v1", 0.0)
    leases.take(ann, 6, READY, 0.0)
    assert leases.take(bob, 6, READY, 119.0) == []
    leases.take(ann, 1, [], 119.0)
    assert leases.take(bob, 6, READY, 238.0) == []
    assert ids(leases.take(bob, 1, READY, 240.0)) == [6]


def test_an_answer_that_comes_twice_counts_once(store: PreferenceStore) -> None:
    leases = Leases(store, PLAIN)
    ann = leases.join("Ann", "v1", 0.0)
    (lease,) = leases.take(ann, 1, READY, 0.0)
    first = leases.answer(lease.id, ann, said("left"), 1.0)
    assert leases.answer(lease.id, ann, said("right"), 2.0) == first
    assert store.answers() == [first]
    assert first.query_id == lease.query_id
    assert ids(leases.take(ann, 9, READY, 3.0)) == [5, 4, 3, 2, 1]


def test_a_late_answer_counts_unless_somebody_else_has_the_query(store: PreferenceStore) -> None:
    leases = Leases(store, PLAIN)
    ann, bob = leases.join("Ann", "v1", 0.0), leases.join("Bob", "v1", 0.0)
    late, later = leases.take(ann, 2, READY, 0.0)
    assert leases.answer(late.id, ann, said(), 500.0).query_id == late.query_id
    (taken,) = leases.take(bob, 1, [later.query_id], 500.0)
    with pytest.raises(LeaseGone, match="somebody else meanwhile"):
        leases.answer(later.id, ann, said(), 501.0)
    leases.answer(taken.id, bob, said(), 502.0)
    with pytest.raises(LeaseGone):
        leases.answer(later.id, ann, said(), 503.0)
    assert Counter(answer.query_id for answer in store.answers()) == {late.query_id: 1, later.query_id: 1}


def test_the_lease_of_somebody_else_is_of_no_use(store: PreferenceStore) -> None:
    leases = Leases(store, PLAIN)
    ann, bob = leases.join("Ann", "v1", 0.0), leases.join("Bob", "v1", 0.0)
    (lease,) = leases.take(ann, 1, READY, 0.0)
    for lease_id in (lease.id, 999, 2**31 - 1):
        with pytest.raises(LeaseGone, match="not yours"):
            leases.answer(lease_id, bob, said(), 1.0)
    assert store.answers() == []


def test_what_was_preferred_on_screen_is_stored_by_segment(store: PreferenceStore) -> None:
    store.add_queries([make_query(seed) for seed in range(6, 60)])
    leases = Leases(store, PLAIN)
    ann = leases.join("Ann", "v1", 0.0)
    given = leases.take(ann, 60, range(1, 61), 0.0)
    assert 15 < sum(lease.swapped for lease in given) < 45
    for lease in given:
        answer = leases.answer(lease.id, ann, said("left"), 1.0)
        assert answer.choice == ("right" if lease.swapped else "left")
    assert Leases(store, PLAIN, seed=0)._first_swapped(3, ann) == next(x.swapped for x in given if x.query_id == 3)


@pytest.mark.parametrize("choice", ["equal", "cant_tell", "skip"])
def test_what_has_no_sides_is_stored_as_it_is(store: PreferenceStore, choice: str) -> None:
    leases = Leases(store, PLAIN)
    ann = leases.join("Ann", "v1", 0.0)
    for lease in leases.take(ann, 6, READY, 0.0):
        assert leases.answer(lease.id, ann, said(choice), 1.0).choice == choice


def test_undo_goes_back_through_all_answers(store: PreferenceStore) -> None:
    leases = Leases(store, PLAIN)
    ann = leases.join("Ann", "v1", 0.0)
    given = leases.take(ann, 3, READY, 0.0)
    answers = [leases.answer(lease.id, ann, said("left"), 1.0) for lease in given]
    last = leases.undo(ann, None, 2.0)
    assert last is not None
    assert leases.undo(ann, None, 2.5) == last, "asked for again, as after a reload"
    assert (last.query_id, last.swapped, last.supersedes) == (given[2].query_id, given[2].swapped, answers[2].id)
    before = leases.undo(ann, answers[2].id, 3.0)
    assert before is not None
    changed = leases.answer(before.id, ann, said("equal"), 4.0)
    assert changed.supersedes == answers[1].id
    first = leases.undo(ann, answers[1].id, 5.0)
    assert first is not None
    assert first.query_id == given[0].query_id
    assert leases.undo(ann, answers[0].id, 6.0) is None
    newest = leases.undo(ann, None, 7.0)
    assert newest is not None
    assert newest.supersedes == changed.id, "the changed answer is the newest"
    assert Counter(answer.query_id for answer in store.answers()) == dict.fromkeys(ids(given), 1)


def test_a_share_of_queries_goes_to_two_labellers_and_never_to_three(store: PreferenceStore) -> None:
    store.add_queries([make_query(seed) for seed in range(6, 100)])
    leases = Leases(store, LeaseOptions(overlap=0.3, repeat=0.0))
    for name in ("Ann", "Bob", "Cyd"):
        labeller = leases.join(name, "v1", 0.0)
        for lease in leases.take(labeller, 200, range(1, 101), 0.0):
            leases.answer(lease.id, labeller, replace(said(), labeller=name), 1.0)
    counts = Counter(Counter(answer.query_id for answer in store.answers()).values())
    assert set(counts) == {1, 2}
    assert 15 < counts[2] < 45


def test_some_queries_come_back_with_the_sides_swapped(store: PreferenceStore) -> None:
    store.add_queries([make_query(seed) for seed in range(6, 100)])
    leases = Leases(store, LeaseOptions(repeat=0.1, repeat_after=5))
    ann = leases.join("Ann", "v1", 0.0)
    shown: list[Lease] = []
    while given := leases.take(ann, 1, range(1, 101), 0.0):
        shown += given
        leases.answer(given[0].id, ann, said(), 1.0)
    repeats = [lease for lease in shown if lease.kind == "repeat"]
    assert len(shown) == 100 + len(repeats)
    assert len(repeats) == len({lease.query_id for lease in repeats}) in (9, 10)
    for lease in repeats:
        earlier = next(i for i, each in enumerate(shown) if each.query_id == lease.query_id)
        assert shown[earlier].swapped != lease.swapped
        assert shown.index(lease) - earlier > 5


def test_labellers_at_once_lose_nothing_and_share_nothing(store: PreferenceStore, database: Database) -> None:
    store.add_queries([make_query(seed) for seed in range(6, 80)])
    errors: list[BaseException] = []

    def label(name: str) -> None:
        try:
            with PreferenceStore(database.location) as own:
                leases = Leases(own, PLAIN)
                labeller = leases.join(name, "v1", 0.0)
                while given := leases.take(labeller, 3, range(1, 81), 0.0):
                    for lease in given:
                        leases.answer(lease.id, labeller, replace(said(), labeller=name), 1.0)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=label, args=(name,)) for name in ("Ann", "Bob", "Cyd", "Ann")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Counter(answer.query_id for answer in store.answers()) == dict.fromkeys(range(1, 81), 1)


def test_gold_queries_are_asked_of_everybody_at_their_share(store: PreferenceStore) -> None:
    store.add_queries([make_query(seed) for seed in range(6, 60)])
    known = [3, 7, 30, 31]
    store.add_answers([replace(said(), query_id=query_id, labeller="owner") for query_id in known])
    leases = Leases(store, LeaseOptions(repeat=0.0, gold="owner", gold_share=0.1))
    for name, firsts in (("Ann", 28), ("Bob", 28), ("owner", 0)):
        labeller = leases.join(name, "v1", 0.0)
        shown: list[Lease] = []
        while given := leases.take(labeller, 1, range(1, 61), 0.0):
            shown += given
            leases.answer(given[0].id, labeller, replace(said(), labeller=name), 1.0)
            if len(shown) == 31:
                break
        gold = [lease.query_id for lease in shown if lease.kind == "gold"]
        assert gold == known[: len(gold)], "oldest first, each once"
        assert len(shown) - len(gold) == firsts, "and no other counts as new"
        assert len(gold) == (3 if firsts else 0)
        places = [shown.index(lease) for lease in shown if lease.kind == "gold"]
        assert all(place <= 11 * (i + 1) for i, place in enumerate(places)), "spread over what they are asked"


def test_how_an_answer_came_about_is_stored_with_it(store: PreferenceStore, database: Database) -> None:
    leases = Leases(store, PLAIN)
    ann = leases.join("Ann", "v1", 0.0)
    (lease,) = leases.take(ann, 1, READY, 0.0)
    for attempt in range(2):
        viewing = Viewing(100.5, 1100.5, 900.0, 1.5, f"page {attempt}")
        stored = leases.answer(lease.id, ann, said(), 1.0, viewing)
    assert database.read("SELECT * FROM viewings") == [(stored.id, 100.5, 1100.5, 900.0, 1.5, "page 0")]


def test_own_answers_count_an_undone_one_once(store: PreferenceStore) -> None:
    leases = Leases(store, PLAIN)
    ann, bob = leases.join("Ann", "v1", 0.0), leases.join("Bob", "v1", 0.0)
    given = leases.take(ann, 3, READY, 0.0)
    assert leases.answered(ann) == 0
    for lease in given[:2]:
        leases.answer(lease.id, ann, said(), 1.0)
    again = leases.undo(ann, None, 2.0)
    assert again is not None
    assert leases.answered(ann) == 2
    leases.answer(again.id, ann, said("right"), 3.0)
    assert (leases.answered(ann), leases.answered(bob)) == (2, 0)


def test_clips_are_wanted_for_open_leases_then_for_new_queries_then_for_gold_ones(store: PreferenceStore) -> None:
    store.add_queries([make_query(seed) for seed in range(6, 40)])
    store.add_answers([replace(said(), query_id=query_id, labeller="owner") for query_id in range(1, 31)])
    leases = Leases(store, replace(PLAIN, gold="owner"))
    assert leases.wanted(0.0, 4) == [40, 39, 38, 37, *range(1, 11)], "gold queries hold nobody up, however many"
    ann = leases.join("Ann", "v1", 0.0)
    assert ids(leases.take(ann, 2, [33, 32], 0.0)) == [33, 32]
    assert leases.wanted(1.0, 4)[:6] == [33, 32, 40, 39, 38, 37]
    assert leases.wanted(1.0, 2, hopeless=[40, 32, 2])[:5] == [33, 39, 38, 1, 3]
    assert leases.wanted(121.0, 1)[0] == 40, "a lease that lapsed is nothing special"
    for lease in leases.take(ann, 2, [33, 32], 122.0):
        leases.answer(lease.id, ann, said(), 123.0)
    (gold,) = leases.take(ann, 1, [1], 123.0)
    assert gold.kind == "gold"
    assert leases.wanted(123.0, 0) == list(range(1, 12)), "as many beyond what somebody has seen"


def test_a_lapsed_lease_is_renewed_and_not_doubled(store: PreferenceStore) -> None:
    leases = Leases(store, LeaseOptions(overlap=1.0, repeat=1.0, repeat_after=0))
    ann = leases.join("Ann", "v1", 0.0)
    (before,) = leases.take(ann, 1, [6], 0.0)
    (after,) = leases.take(ann, 1, [6], 200.0)
    assert after == replace(before, expires_at=320.0)
    one = leases.answer(before.id, ann, said("left"), 201.0)  # from the tab that was open before
    assert leases.answer(after.id, ann, said("right"), 202.0) == one
    (repeat,) = leases.take(ann, 1, [6], 203.0)
    assert (repeat.kind, leases.take(ann, 1, [6], 400.0)) == ("repeat", [replace(repeat, expires_at=520.0)])
    undo = leases.undo(ann, None, 500.0)
    assert undo is not None
    assert leases.undo(ann, None, 700.0) == replace(undo, expires_at=820.0)
    leases.answer(undo.id, ann, said("right"), 701.0)
    leases.answer(repeat.id, ann, said("left"), 702.0)
    assert len(store.answers()) == 2, "the answer and its repeat"


def test_an_answer_that_another_program_changed_is_not_undone(store: PreferenceStore) -> None:
    leases = Leases(store, PLAIN)
    ann = leases.join("Ann", "v1", 0.0)
    (lease,) = leases.take(ann, 1, READY, 0.0)
    stored = leases.answer(lease.id, ann, said(), 1.0)
    undo = leases.undo(ann, None, 2.0)
    assert undo is not None
    store.add_answers([replace(stored, id=None, supersedes=stored.id, labeller="somebody")])
    with pytest.raises(LeaseGone, match="changed already"):
        leases.answer(undo.id, ann, said(), 3.0)


def test_a_lease_is_renewed_when_a_quarter_of_its_time_is_gone(store: PreferenceStore, database: Database) -> None:
    leases = Leases(store, PLAIN)
    ann = leases.join("Ann", "v1", 0.0)
    leases.take(ann, 1, READY, 0.0)
    for now, expires in ((29.0, 120.0), (31.0, 151.0), (60.0, 151.0)):
        leases.take(ann, 1, READY, now)
        assert database.read("SELECT expires_at FROM leases") == [(expires,)]


def test_only_pairs_are_shown(store: PreferenceStore) -> None:
    (three,) = store.add_queries([make_query(9, size=3)])
    store.add_answers([make_answer(three.id, labeller="owner", ranking=((0,), (1,), (2,)))])
    leases = Leases(store, replace(PLAIN, gold="owner"))
    ann = leases.join("Ann", "v1", 0.0)
    assert ids(leases.take(ann, 9, range(1, 9), 0.0)) == [6, 5, 4, 3, 2, 1]
    assert 7 not in leases.wanted(0.0, 9)


def test_thousands_of_answered_queries_hold_nobody_up(database: Database) -> None:
    with PreferenceStore(database.location) as store:
        query = make_query()
        store.add_queries([query] * 5000)
        leases = Leases(store, LeaseOptions(overlap=0.2))
        bob, ann = leases.join("Bob", "v1", 0.0), leases.join("Ann", "v1", 0.0)
        given = leases.take(bob, 4900, range(1, 5001), 0.0)
        began, busy = time.perf_counter(), time.process_time()
        for i in range(10):
            assert len(leases.take(ann, 10 * (i + 1), range(1, 102), 1.0)) == 10 * (i + 1)
        assert (time.process_time() - busy) / 10 < 0.2, "seconds for each"
        assert (time.perf_counter() - began) / 10 < 2, "seconds with a server's own, where other tests share the cores"
        assert len(given) == 4900


def test_threads_of_a_server_share_one_store(store: PreferenceStore) -> None:
    """More of them than the store has connections, each of which reads while it writes."""
    store.add_queries([make_query(seed) for seed in range(6, 80)])
    leases = Leases(store, PLAIN)

    class Ready:
        def __contains__(self, query_id: object) -> bool:
            assert isinstance(query_id, int)
            return len(store.segment_ids([query_id])[query_id]) == 2

    def label(number: int) -> int:
        labeller = leases.join(f"labeller {number}", "v1", 0.0)
        (lease,) = leases.take(labeller, 1, Ready(), 0.0)
        return leases.answer(lease.id, labeller, said(), 1.0).query_id

    began = time.monotonic()
    with ThreadPoolExecutor(40) as pool:
        answered = list(pool.map(label, range(40)))
    assert sorted(answered) == list(range(41, 81))
    assert time.monotonic() - began < 20, "seconds; a pool without a free connection waits for 30"
