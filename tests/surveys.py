"""Stores of queries that people and scripted teachers have answered, to compare them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from prefrl.agreement import Labeller, Survey, read_survey
from prefrl.labelling.leases import Lease, Leases, Viewing
from prefrl.labelling.options import LeaseOptions
from prefrl.oracles.synthetic import SyntheticOracle, Teacher, true_return
from prefrl.preferences import Answer, PreferenceStore
from prefrl.queries import Query
from prefrl.segments import Segment

STEPS = 30  # of a segment

# What is on screen, left first, and a source of chance -> the key that is pressed.
Person = Callable[[tuple[float, float], np.random.Generator], str]


def make_segments(count: int, seed: int = 0, steps: int = STEPS) -> list[Segment]:
    """Segments whose reward wanders from step to step, on a level that rises as that of a policy that learns."""
    rng = np.random.default_rng(seed)
    level = rng.normal(scale=0.5, size=count) + np.linspace(0, 1, count)
    walks = 0.15 * rng.normal(size=(count, steps)).cumsum(axis=1)
    rewards = (level[:, None] + walks + 0.3 * rng.normal(size=(count, steps))).astype(np.float32)
    return [
        Segment(rng.normal(size=(steps, 2)).astype(np.float32), rng.normal(size=(steps, 1)).astype(np.float32), each)
        for each in rewards
    ]


def make_pairs(count: int, seed: int = 0) -> list[Query]:
    segments = make_segments(2 * count, seed)
    return [Query(tuple(segments[2 * i : 2 * i + 2])) for i in range(count)]


def let_oracle_answer(store: PreferenceStore, name: str, teacher: Teacher, seed: int = 0) -> None:
    oracle = SyntheticOracle(true_return, teacher, seed=seed, labeller=name)
    oracle.submit(store.queries())
    store.add_answers(oracle.collect())


def let_person_answer(
    store: PreferenceStore, name: str, person: Person, count: int, repeat: float = 0.0, seconds: float = 2.0
) -> list[Lease]:
    """As through the labelling page; everybody may answer every query."""
    queries = {query.id: query for query in store.queries()}
    leases = Leases(store, LeaseOptions(overlap=1.0, repeat=repeat, repeat_after=0))
    labeller = leases.join(name, "v1", 0.0)
    rng = np.random.default_rng(len(name))
    taken = []
    for second in range(count):
        now = 1000.0 + 60 * second
        (lease,) = leases.take(labeller, 1, [i for i in queries if i is not None], now)
        shown = [segment.true_return for segment in queries[lease.query_id].segments]
        left, right = reversed(shown) if lease.swapped else shown
        key = person((left, right), rng)
        said = Answer.from_choice(1, key, labeller=name, shown_at=now, answered_at=now + seconds)
        viewing = Viewing(0.0, 1500 * seconds, 1000 * seconds, 1.0, "v1")  # a third of the time not in view
        leases.answer(lease.id, labeller, said, now + seconds, viewing)
        taken.append(lease)
    return taken


def perfect(shown: tuple[float, float], rng: np.random.Generator) -> str:
    return "left" if shown[0] > shown[1] else "right"


def left_handed(shown: tuple[float, float], rng: np.random.Generator) -> str:
    return "left"


def survey_of(answers: Sequence[tuple[str, Teacher]], queries: Sequence[Query], seed: int = 0) -> Survey:
    """What teachers by name said of the queries, in a database of memory alone."""
    with PreferenceStore("sqlite://") as store:
        store.add_queries(list(queries))
        for name, teacher in answers:
            let_oracle_answer(store, name, teacher, seed)
        return read_survey(store)


def labeller_of(survey: Survey, name: str) -> Labeller:
    return next(each for each in survey.labellers if each.name == name)
