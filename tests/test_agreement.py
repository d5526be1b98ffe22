"""`prefrl compare`: what people and oracles said of the same queries, counted and shown."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stores import Database, SqliteFile, make_answer, make_query
from surveys import labeller_of, left_handed, let_oracle_answer, let_person_answer, make_pairs, perfect, survey_of
from test_report import Page, write_run

from prefrl.agreement import CompareOptions, Survey, compare, read_survey
from prefrl.agreement.intervals import wilson
from prefrl.agreement.labellers import CHOICES
from prefrl.agreement.results import work_out
from prefrl.agreement.shares import agreement, agreement_by_distance, agreement_by_part, drift, habits, seconds_by_part
from prefrl.cli import main
from prefrl.errors import UserError
from prefrl.labelling.leases import Leases
from prefrl.labelling.options import LeaseOptions
from prefrl.oracles.judges import judge_one_leg
from prefrl.oracles.synthetic import Teacher
from prefrl.preferences import Answer, PreferenceStore

HOSTILE = "<b>eve</b>\x1b[2J\u202e[red]"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreferenceStore:
    """Sixty pairs, answered by nobody yet, in the current folder."""
    monkeypatch.chdir(tmp_path)
    made = PreferenceStore(tmp_path / "preferences.db")
    made.add_queries(make_pairs(60))
    return made


def choices_of(survey: Survey, name: str) -> list[str]:
    return [CHOICES[choice] for choice in labeller_of(survey, name).choices]


# Counting.


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_share_has_wilsons_interval_as_published(successes: int, trials: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    interval = wilson(successes, trials)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=6e-5)


def test_who_sees_the_truth_agrees_with_it_and_with_themselves_whatever_the_side(store: PreferenceStore) -> None:
    leases = let_person_answer(store, "Ann", perfect, 50, repeat=0.25)
    let_oracle_answer(store, "reward", Teacher())
    survey = read_survey(store)
    ann, reward = labeller_of(survey, "Ann"), labeller_of(survey, "reward")
    assert (ann.is_oracle, reward.is_oracle) == (False, True)
    assert agreement(ann, survey.true_return).value == agreement(reward, survey.true_return).value == 1
    repeats = sum(lease.kind == "repeat" for lease in leases)
    assert repeats >= 8
    assert (habits(ann).repeats, habits(ann).same.value) == (repeats, 1)
    assert sum(point.count for point in agreement_by_distance(ann, survey.true_return)) == 50 - repeats
    assert habits(ann).answers == 50
    assert habits(ann).on_left_p > 0.01
    assert habits(reward).repeats == 0
    assert math.isnan(habits(reward).same.value)


def test_who_always_takes_the_left_is_found_out(database: Database) -> None:
    with PreferenceStore(database.location) as store:
        store.add_queries(make_pairs(60))
        leases = let_person_answer(store, "Bob", left_handed, 50, repeat=0.25)
        bob = labeller_of(survey := read_survey(store), "Bob")
    assert 5 < sum(lease.swapped for lease in leases) < 45
    found = habits(bob)
    assert (found.on_left.value, found.same.value) == (1, 0)
    assert found.on_left_p == pytest.approx(2 * 0.5**50)
    assert 0.2 < agreement(bob, survey.true_return).value < 0.8


def test_an_answer_that_was_taken_back_does_not_count_and_a_repeat_stays_one(store: PreferenceStore) -> None:
    """Undo goes back through the repeat to the first answer, which then has a later id than the repeat."""
    (query, *_) = store.queries()
    assert query.id is not None
    leases = Leases(store, LeaseOptions(repeat=1.0, repeat_after=0))
    ann = leases.join("Ann", "v1", 0.0)

    def say(choice: str, lease_id: int, now: float) -> Answer:
        answer = Answer.from_choice(1, choice, labeller="Ann", shown_at=now, answered_at=now + 1)
        return leases.answer(lease_id, ann, answer, now + 1)

    (first,) = leases.take(ann, 1, [query.id], 0.0)
    say("equal", first.id, 1.0)
    (again,) = leases.take(ann, 1, [query.id], 2.0)
    assert (again.kind, again.swapped) == ("repeat", not first.swapped)
    said = say("cant_tell", again.id, 3.0)
    undone = leases.undo(ann, None, 5.0)
    assert undone is not None
    say("right" if again.swapped else "left", undone.id, 6.0)  # the query's first segment
    before = leases.undo(ann, said.id, 7.0)
    assert before is not None
    say("left" if first.swapped else "right", before.id, 8.0)  # its second

    survey = read_survey(store)
    found = labeller_of(survey, "Ann")
    assert choices_of(survey, "Ann") == ["right", "left"], "as asked: the first answer, then the repeat"
    assert found.earlier.tolist() == [-1, 0]
    assert found.swapped.tolist() == [first.swapped, again.swapped]
    assert (habits(found).repeats, habits(found).same.value) == (1, 0)


def test_choices_and_seconds_are_counted(store: PreferenceStore) -> None:
    keys = iter(["left"] * 5 + ["equal"] * 3 + ["cant_tell"] * 2 + ["skip"] * 10)
    let_person_answer(store, "Ann", lambda shown, rng: next(keys), 20, seconds=3.5)
    let_oracle_answer(store, "reward", Teacher())
    survey = read_survey(store)
    found = habits(labeller_of(survey, "Ann"))
    shares = {name: share.value for name, share in found.choices.items()}
    assert shares.pop("left") + shares.pop("right") == 0.25
    assert shares == {"equal": 0.15, "cant_tell": 0.1, "skip": 0.5}
    assert found.seconds == (3.5, 3.5, 3.5)
    assert np.isnan(habits(labeller_of(survey, "reward")).seconds).all(), "an oracle's time means nothing"


def test_ratings_leave_out_repeats_cant_tell_and_skip(store: PreferenceStore) -> None:
    leases = let_person_answer(store, "Ann", perfect, 20, repeat=0.5)
    kinds = iter(["skip", "cant_tell", "equal"])
    let_person_answer(store, "Bob", lambda shown, rng: next(kinds), 3)
    survey = read_survey(store)
    ann, bob = survey.ratings([labeller_of(survey, "Ann"), labeller_of(survey, "Bob")])
    assert np.isfinite(ann).sum() == sum(lease.kind == "first" for lease in leases)
    assert bob[np.isfinite(bob)].tolist() == [1.0]


# Agreement as a function of distance, and over the session.


def test_agreement_grows_with_distance_for_a_stochastic_teacher(tmp_path: Path) -> None:
    with PreferenceStore(tmp_path / "preferences.db") as store:
        store.add_queries(make_pairs(600))
        let_oracle_answer(store, "fickle", Teacher(rationality=2.0, skip_below=-1.5))
        survey = read_survey(store)
    (fickle,) = survey.labellers
    points = agreement_by_distance(fickle, survey.true_return)
    decided = int(fickle.decided.sum())
    assert sum(point.count for point in points) == decided < 600
    assert max(point.count for point in points) - min(point.count for point in points) <= 1
    for point in points:
        assert point.share.value == pytest.approx(1 / (1 + math.exp(-2 * point.at)), abs=0.15)
    assert points[-1].share.low > points[0].share.high


def test_drift_is_found_where_there_is_some(tmp_path: Path) -> None:
    """The first half of the answers is a perfect teacher's, the second half a coin's; and the other way round."""
    with PreferenceStore(tmp_path / "preferences.db") as store:
        store.add_queries(make_pairs(300))
        let_oracle_answer(store, "steady", Teacher(rationality=2.0))
        let_oracle_answer(store, "good", Teacher(rationality=20.0))
        let_oracle_answer(store, "coin", Teacher(error_rate=1.0))
        survey = read_survey(store)
    good, coin, steady = (labeller_of(survey, name) for name in ("good", "coin", "steady"))
    first_half = np.arange(300) < 150
    tires = replace(good, choices=np.where(first_half, good.choices, coin.choices))
    learns = replace(good, choices=np.where(first_half, coin.choices, good.choices))
    assert drift(tires, survey.true_return).high < 0 < drift(learns, survey.true_return).low
    assert 0 in drift(steady, survey.true_return)
    points = agreement_by_part(tires, survey.true_return)
    assert [point.at for point in points] == [30.5, 90.5, 150.5, 210.5, 270.5]
    assert points[0].share.low > points[4].share.high
    hurried = replace(steady, seconds=np.linspace(9.0, 1.0, 300))
    assert [second for _, second in seconds_by_part(hurried)] == pytest.approx([8.2, 6.6, 5.0, 3.4, 1.8], abs=0.02)


def test_queries_that_get_harder_are_no_drift() -> None:
    """Of 8 intervals with 95 % each, 3 outside have a chance of 1 %."""
    found, rng = [], np.random.default_rng(0)
    for seed in range(8):
        survey = survey_of([("steady", Teacher(rationality=3.0))], make_pairs(400, seed), seed)
        (steady,) = survey.labellers
        closer = np.argsort(0.5 * rng.normal(size=400) - survey.true_return.distances)
        harder = replace(steady, pairs=steady.pairs[closer], choices=steady.choices[closer])
        points = agreement_by_part(harder, survey.true_return)
        assert points[0].share.value > points[4].share.value + 0.05
        found.append(drift(harder, survey.true_return))
    assert sum(0 in interval for interval in found) >= 6


def test_few_answers_show_no_drift(store: PreferenceStore) -> None:
    let_person_answer(store, "Ann", perfect, 5)
    survey = read_survey(store)
    (ann,) = survey.labellers
    assert math.isnan(drift(ann, survey.true_return).value)
    assert (agreement_by_part(ann, survey.true_return), seconds_by_part(ann)) == ([], [])
    assert len(agreement_by_distance(ann, survey.true_return)) == 1


def test_two_labellers_without_a_query_in_common_have_no_alpha(store: PreferenceStore) -> None:
    ids = [query.id for query in store.queries()]
    for name, some in (("Ann", ids[:10]), ("Bob", ids[10:20])):
        store.add_answers(
            [make_answer(each, "left" if i % 2 else "right", labeller=name) for i, each in enumerate(some)]
        )
    (between,) = work_out(read_survey(store), 0).between
    assert between.queries == 0
    assert math.isnan(between.nominal.value)


# The judge.


def test_the_judge_is_asked_where_the_task_has_one(tmp_path: Path) -> None:
    cheetah = [make_query(seed) for seed in range(8)]
    states = np.random.default_rng(0).normal(size=(16, 4, 9))
    segments = [
        replace(segment, qpos=states[2 * i + j]) for i, q in enumerate(cheetah) for j, segment in enumerate(q.segments)
    ]
    queries = [replace(query, segments=tuple(segments[2 * i : 2 * i + 2])) for i, query in enumerate(cheetah)]
    with PreferenceStore(tmp_path / "judged.db", task="cheetah-one-leg") as store:
        for query in store.add_queries(queries):
            left, right = map(judge_one_leg, query.segments)
            store.add_answers([make_answer(query.id, "left" if left > right else "right")])
        survey = read_survey(store)
    assert survey.judge is not None
    assert agreement(survey.labellers[0], survey.judge).value == 1
    assert agreement(survey.labellers[0], survey.true_return).value < 1
    with PreferenceStore(tmp_path / "stateless.db", task="cheetah-one-leg") as store:
        for query in store.add_queries(make_pairs(3)):
            store.add_answers([make_answer(query.id)])
        assert read_survey(store).judge is None, "nothing that it could look at"


# What cannot be compared.


def test_queries_of_three_segments_are_left_out_and_counted(store: PreferenceStore, tmp_path: Path) -> None:
    let_oracle_answer(store, "reward", Teacher())
    (longer,) = store.add_queries([make_query(7, size=3)])
    store.add_answers([make_answer(longer.id, ranking=((2,), (0, 1)), labeller="reward")])
    survey = read_survey(store)
    assert (survey.longer_queries, survey.answers_to_longer, len(survey.labellers[0])) == (1, 1, 60)
    page = compare(CompareOptions(str(tmp_path / "preferences.db"), out=tmp_path / "page.html")).page
    assert "1 queries of three segments or more and the 1 answers to them are left out" in Page(page).words


def test_what_cannot_be_compared_is_refused_in_one_line(store: PreferenceStore, tmp_path: Path) -> None:
    location = str(tmp_path / "preferences.db")
    with PreferenceStore(tmp_path / "longer.db") as other:
        (longer,) = other.add_queries([make_query(size=3)])
        other.add_answers([make_answer(longer.id, ranking=((2,), (0,), (1,)))])
    (tmp_path / "run").mkdir()
    for options, message in (
        (CompareOptions(location), r"preferences.db holds no answers to compare; prefrl answer lets"),
        (CompareOptions(str(tmp_path / "longer.db")), r"holds 1 answers, all to queries of three segments or more"),
        (CompareOptions(str(tmp_path / "none.db")), r"none.db does not exist; give the preferences.db of a run"),
        (CompareOptions(str(tmp_path / "run")), r"run holds no preferences.db; name the folder of a run"),
        (CompareOptions(location, runs=(tmp_path / "run",)), "holds neither config.json nor metrics.csv"),
    ):
        with pytest.raises(UserError, match=message):
            compare(options)
    store.add_answers([make_answer(1)])
    with pytest.raises(UserError, match=r"can't write .*page.html"):
        compare(CompareOptions(location, out=tmp_path / "preferences.db" / "page.html"))
    SqliteFile(tmp_path / "preferences.db").tamper("UPDATE answers SET ranking = '0>2>1'")
    with pytest.raises(UserError, match=r"answer 1 in .*preferences.db ranks 0>2>1 where its query has two segments"):
        compare(CompareOptions(location))


def test_a_run_is_read_no_further_than_it_is_trusted(store: PreferenceStore, tmp_path: Path) -> None:
    let_oracle_answer(store, "reward", Teacher())
    run = write_run(tmp_path / "run", options={"store": "postgresql://somebody@nowhere.invalid/name"})
    with pytest.raises(UserError, match=r"wants to connect to postgresql://somebody@nowhere.invalid/name.*--trust"):
        compare(CompareOptions(str(run)))
    shutil.copy(tmp_path / "preferences.db", run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"options": {}}))
    compare(CompareOptions(str(run), out=tmp_path / "page.html"))
    (run / "preferences.db").unlink()
    (run / "preferences.db").symlink_to(tmp_path / "preferences.db")
    with pytest.raises(UserError, match=r"preferences.db is a link"):
        compare(CompareOptions(str(run)))


# What is shown.


@pytest.fixture
def prefrl_compare(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., str]:
    def run(*arguments: str | Path) -> str:
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr("sys.argv", ["prefrl", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


def test_the_command_shows_labellers_alpha_and_teachers(
    store: PreferenceStore, tmp_path: Path, prefrl_compare: Callable[..., str]
) -> None:
    let_person_answer(store, "Ann", perfect, 50, repeat=0.2)
    let_oracle_answer(store, "reward", Teacher())
    let_oracle_answer(store, HOSTILE, Teacher(equal_within=0.4))
    runs = [write_run(tmp_path / name, feedback=name, labels=700) for name in ("people", "synthetic")]
    out = prefrl_compare("preferences.db", "--runs", *runs, "--out", "page.html")

    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "<b>eve</b…" in out, "neither markup nor HTML"
    assert out.splitlines()[-1] == "page.html"
    ann = next(line.split() for line in out.splitlines() if line.startswith(" Ann"))
    assert ann[:7] == ["Ann", "50", "100", "±", "4", "–", "100"], "answers, true return, no judge, itself"
    assert ann[8:] == ["2.0", "0", "0", "0"], "seconds, equal, can't tell, skip"
    assert "\n people " not in out, "one person alone"
    assert out.count("rationality β") == 3
    assert out.count("∞ (over") == 3

    page = Page(tmp_path / "page.html")
    assert not [tag for tag, _ in page.tags if tag in ("b", "script", "img", "link")]
    for expected in (
        "<b>eve</b>\ufffd[2J\ufffd[red]",
        "3 labellers",
        "Krippendorff's α",
        "on the page",
        "Time per answer",
    ):
        assert expected in page.words
    assert "700 people answers" in page.words, "the runs' learning curves"


def test_one_labeller_and_five_answers_have_a_page_too(
    store: PreferenceStore, tmp_path: Path, prefrl_compare: Callable[..., str]
) -> None:
    let_person_answer(store, "Ann", lambda shown, rng: "equal", 5)
    out = prefrl_compare(tmp_path / "preferences.db")
    assert "α: –, as there is one labeller alone" in out
    assert next(line.split() for line in out.splitlines() if line.startswith(" Ann")) == [
        *("Ann", "5", "–", "–", "–", "–", "2.0", "100", "0", "0")
    ]
    words = Page(tmp_path / "labellers.html").words
    for expected in ("nobody to agree with", "fewer show no drift", "No runs were named", "not measured"):
        assert expected in words


def test_the_seed_fixes_the_intervals(store: PreferenceStore) -> None:
    let_oracle_answer(store, "reward", Teacher())
    let_oracle_answer(store, "fickle", Teacher(rationality=1.0))
    survey = read_survey(store)
    one, same, other = (work_out(survey, seed).between for seed in (0, 0, 1))
    assert one == same
    assert one != other
