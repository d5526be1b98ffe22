import csv
import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import find_chromium
from scipy import stats
from stand_in import browser
from swept import RANDOM, small_sweep, swept
from test_report import Page

from prefrl import plots
from prefrl.errors import UserError
from prefrl.paper import FIGURE_2, FIGURE_5, TRUE_REWARD
from prefrl.report import sweep_page
from prefrl.report.sweep_drawings import sweep_figures
from prefrl.report.sweep_page import COVERAGE, build_sweep_report
from prefrl.report.sweep_scores import SweepScores
from prefrl.report.sweep_tables import aggregate_table, answers_table, markdown, predictor_table, return_table
from prefrl.sweep import Sweep, SweepResults, Trial, load_sweep, write_results

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
FINISHED = ["learning.svg", "learning.png", "answers.svg", "answers.png", "profiles.svg", "profiles.png"]
FINISHED += [
    "predicted.svg",
    "predicted.png",
    "final.svg",
    "final.png",
    "results.csv",
    "small.md",
    "report.html",
    "sweep.json",
    "trials.jsonl",
]


def finals(results: SweepResults, task: str, condition: str) -> list[float]:
    """By going through the outcomes one after the other."""
    return [each.true_return for each in results.outcomes if each.task == task and each.condition == condition]


def of_shares(shares: dict[tuple[str, str], list[float]], seeds: int, **changes: object) -> SweepScores:
    """A sweep whose runs get that share, by task and condition and seed, of the way from random to a return of best."""
    results = swept(
        small_sweep(seeds=tuple(range(seeds)), **changes),
        share=lambda trial: shares[trial.task, trial.condition][trial.seed],
    )
    return SweepScores(results)


@pytest.fixture(scope="module")
def incomplete() -> SweepResults:
    """The true reward's second seed on reacher is missing, and 350 answers altogether there."""

    def finished(trial: Trial) -> bool:
        return (trial.task, trial.condition, trial.seed) != ("reacher", TRUE_REWARD, 1) and (
            (trial.task, trial.condition) != ("reacher", "350 answers")
        )

    return swept(small_sweep(), finished)


@pytest.fixture(scope="module")
def reported(incomplete: SweepResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "small"
    write_results(incomplete, folder)
    assert build_sweep_report(folder) == folder / "report.html"
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without its figures, which take longer than all else on it."""
    monkeypatch.setattr(sweep_page, "sweep_figures", lambda scores: [])


def test_a_report_is_written_beside_the_results(reported: Path) -> None:
    assert sorted(path.name for path in reported.iterdir()) == sorted(FINISHED)


def test_building_a_report_again_changes_no_byte(reported: Path, tmp_path: Path) -> None:
    for name in ("sweep.json", "trials.jsonl"):
        (tmp_path / name).write_bytes((reported / name).read_bytes())
    build_sweep_report(tmp_path)
    for name in FINISHED:
        assert (tmp_path / name).read_bytes() == (reported / name).read_bytes(), name


def test_the_page_is_one_file_that_fetches_nothing(reported: Path) -> None:
    page = Page(reported / "report.html")
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "img")]
    assert not re.search(r"https?:|url\((?!#)|@import", (reported / "report.html").read_text())
    assert len(page.all("svg")) == 5
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.usefixtures("undrawn")
def test_runs_that_please_only_their_predictor_are_named(tmp_path: Path) -> None:
    shares = {"350 answers": 0.05, "700 answers": 0.5}
    results = swept(
        small_sweep(tasks=("hopper",), seeds=(0,), drawings=(), notes={}),
        share=lambda trial: shares.get(trial.condition, 1.0),
    )
    outcomes = [replace(each, alarms=[]) for each in results.outcomes]
    told = "Only the predictor is pleased in 1 run: hopper, 350 answers, seed 0. It pays more"
    for changed, expected in (
        ({}, True),
        ({"alarms": ["the predictor guesses"]}, False),
        ({"learnt_from": {"oracle": {"score": "judge"}}}, False),
        ({"curve": {"predicted_return": [*[1.0] * 18, -1.0, None]}}, False),
        ({"curve": {}}, False),
    ):
        write_results(
            replace(results, outcomes=tuple(replace(e, **changed) if e.labels == 350 else e for e in outcomes)),
            tmp_path,
        )
        assert (told in Page(build_sweep_report(tmp_path)).words) == expected, changed


@pytest.mark.parametrize("name", ["report.html", "small.md"])
def test_every_run_its_alarms_and_what_is_missing_are_listed(
    reported: Path, incomplete: SweepResults, name: str
) -> None:
    words = Page(reported / name).words if name.endswith("html") else (reported / name).read_text()
    words = re.sub(r"[\s|\\]+", " ", words)
    for each in incomplete.outcomes:
        digits = 1 if each.task == "reacher" and abs(each.true_return) >= 10 else 2 if each.task == "reacher" else 0
        value = f"{each.true_return:,.{digits}f}".replace("-", "−")
        alarm = " the predictor guesses" if each.alarms else ""
        assert re.search(rf"{each.task} {each.condition} {each.seed} {value} ± 1 .*?10\.0{alarm}", words)
    alarmed = sum(bool(each.alarms) for each in incomplete.outcomes)
    assert alarmed == words.count("the predictor guesses") == 2
    assert f"{alarmed} of 6 runs from answers raised an alarm" in words
    assert "may have been exploited in 2 runs: " in words
    assert "9 of 12 trials are finished" in words
    assert "reacher, true reward, seed 1" in words
    assert "reacher, 350 answers, seed 0" in words
    assert "abc123" in words
    assert "2026-11-23 to 2026-11-24" in words
    assert "prefrl sweep small" in words
    assert "hops." in words


def test_the_csv_has_a_line_per_trial_with_its_command(reported: Path, incomplete: SweepResults) -> None:
    with (reported / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [each.id for each in incomplete.outcomes]
    for row, each in zip(rows, incomplete.outcomes, strict=True):
        assert float(row["true_return"]) == pytest.approx(each.true_return, rel=1e-5)
        assert (row["command"], row["speed"], int(row["answers"])) == (each.command, "1.5", each.labels)
        assert int(row["alarms"]) == len(each.alarms)


def test_returns_stand_beside_the_papers_with_their_ratio(incomplete: SweepResults) -> None:
    table = return_table(SweepScores(incomplete))
    hopper, reacher = table["rows"]
    mean = np.mean(finals(incomplete, "hopper", "700 answers"))
    assert hopper[3].splitlines()[0] == f"{mean:,.0f}"
    assert hopper[3].splitlines()[2:] == ["paper 4,500", f"× {mean / 4500:.2f}"]
    assert reacher[3].splitlines()[2:] == ["paper −3.15"]  # below zero, where a ratio would mislead
    assert reacher[2].splitlines() == [
        f"{finals(incomplete, 'reacher', TRUE_REWARD)[0]:.2f}".replace("-", "−"),
        "paper −1.80",
    ]
    assert reacher[4].splitlines()[0] == "–"


def test_what_the_predictors_were_like_is_told_as_far_as_it_is_known(incomplete: SweepResults) -> None:
    table = predictor_table(SweepScores(incomplete))
    assert [column["title"] for column in table["columns"]] == ["task", "350 answers", "700 answers"]
    known = "correlation 0.900\nheld out 0.75"
    assert table["rows"] == [["hopper", known, known], ["reacher", "–", known]]
    never = swept(small_sweep(), lambda trial: trial.condition != "350 answers")
    assert [column["title"] for column in predictor_table(SweepScores(never))["columns"]] == ["task", "700 answers"]


def test_scores_are_0_for_random_and_1_for_the_baseline(incomplete: SweepResults) -> None:
    scores = SweepScores(incomplete)
    for task in scores.tasks:
        assert scores.score_of(task, RANDOM[task]) == 0
        assert scores.score_of(task, float(np.mean(finals(incomplete, task, TRUE_REWARD)))) == pytest.approx(1)
    assert scores.paper_score("hopper", "700 answers") == pytest.approx((4500 - 500) / (4180 - 500))


def test_aggregates_are_over_the_runs_of_all_tasks() -> None:
    results = swept(small_sweep(seeds=(0, 1, 2, 3)))
    scores = SweepScores(results)
    normalised, wins = [], []
    for task in results.sweep.tasks:
        baseline = np.mean(finals(results, task, TRUE_REWARD))
        ours, theirs = finals(results, task, "350 answers"), finals(results, task, TRUE_REWARD)
        normalised += [(value - RANDOM[task]) / (baseline - RANDOM[task]) for value in ours]
        wins.append(np.mean([a > b for a in ours for b in theirs]))
    iqm, gap = scores.iqm("350 answers"), scores.gap("350 answers")
    assert iqm.value == pytest.approx(stats.trim_mean(normalised, 0.25))
    assert gap.value == pytest.approx(np.mean([max(0, 1 - score) for score in normalised]))
    assert scores.improvement("350 answers").value == pytest.approx(np.mean(wins))
    assert iqm.low < iqm.value < iqm.high
    profile = scores.profile("350 answers", np.array([0.0, 0.7, 0.8]))
    assert profile is not None
    np.testing.assert_allclose(profile.shares, [np.mean(np.array(normalised) > t) for t in (0.0, 0.7, 0.8)])
    assert math.isnan(scores.improvement(TRUE_REWARD).value)


def test_the_papers_interquartile_mean_is_over_the_same_tasks() -> None:
    sweep = small_sweep(seeds=(0,), tasks=("hopper", "swimmer", "cheetah", "ant"))
    random = dict(zip(sweep.tasks, (500, 0, 0, -500), strict=True))
    paper = {
        "hopper": {TRUE_REWARD: 1500, "700 answers": 1200},  # 0.7
        "swimmer": {TRUE_REWARD: 100, "700 answers": 40},  # 0.4: the worst, left out
        "cheetah": {TRUE_REWARD: 1000, "700 answers": 1200},  # 1.2
        "ant": {TRUE_REWARD: 500, "700 answers": 1500},  # 2: the best, left out
    }
    results = replace(swept(replace(sweep, paper=paper)), random_returns=random)
    scores = SweepScores(results)
    assert scores.paper_iqm("700 answers") == pytest.approx(0.95)
    assert np.isnan([scores.paper_iqm(name) for name in (TRUE_REWARD, "350 answers")]).all()
    table = aggregate_table(scores)
    assert table["stacked"]
    assert {row[0]: row[3].splitlines()[1:] for row in table["rows"]} == {
        TRUE_REWARD: [],
        "700 answers": ["paper 0.95"],
        "350 answers": [],
    }


def test_the_papers_interquartile_mean_needs_all_tasks_that_are_scored() -> None:
    paper = {"hopper": {TRUE_REWARD: 1500, "700 answers": 1300}}  # and nothing of reacher
    scores = SweepScores(swept(replace(small_sweep(), paper=paper)))
    assert math.isnan(scores.paper_iqm("700 answers"))
    assert not aggregate_table(scores)["stacked"]


def test_the_interval_of_a_score_holds_the_uncertainty_of_the_baseline() -> None:
    """Of seeds that are all equal, only the baseline's differ from resample to resample."""
    shares = {(task, name): [0.9, 0.9] for task in ("hopper",) for name in ("700 answers", "350 answers")}
    scores = of_shares({**shares, ("hopper", TRUE_REWARD): [0.8, 1.2]}, seeds=2, tasks=("hopper",))
    found = scores.iqm("700 answers")
    assert (found.low, found.value, found.high) == pytest.approx((0.9 / 1.2, 0.9, 0.9 / 0.8))


def test_every_task_weighs_alike_however_many_of_its_runs_are_finished() -> None:
    conditions = {TRUE_REWARD: {"feedback": "none"}, "700 answers": {"labels": 700}}
    shares = {"hopper": [0.2, 0.4, 0.6], "reacher": [0.8, math.nan, math.nan]}  # nan: not finished
    results = swept(
        small_sweep(seeds=(0, 1, 2), conditions=conditions),
        lambda trial: trial.condition == TRUE_REWARD or math.isfinite(shares[trial.task][trial.seed]),
        lambda trial: 1.0 if trial.condition == TRUE_REWARD else shares[trial.task][trial.seed],
    )
    scores = SweepScores(results)
    # Of 0.2, 0.4, 0.6 and three times 0.8, all but the first and the last: a run of reacher counts as three of hopper.
    assert scores.iqm("700 answers").value == pytest.approx(np.mean([0.4, 0.6, 0.8, 0.8]))
    assert scores.gap("700 answers").value == pytest.approx(np.mean([0.6, 0.2]))
    profile = scores.profile("700 answers", np.array([0.5]))
    assert profile is not None
    assert profile.shares == pytest.approx([(1 / 3 + 1) / 2])


def test_without_two_runs_there_is_no_interval() -> None:
    shares = {(task, name): [0.9] for task in ("hopper", "reacher") for name in small_sweep().conditions}
    scores = of_shares(shares, seeds=1)
    for row in aggregate_table(scores)["rows"]:
        assert not any("to" in cell for cell in row), row
    profile = scores.profile("700 answers", np.array([0.5]))
    assert profile is not None
    assert np.isnan([profile.low, profile.high]).all()


def test_the_baselines_own_scores_have_no_interval() -> None:
    scores = SweepScores(swept(small_sweep(seeds=(0, 1, 2))))
    assert scores.gap(TRUE_REWARD).value > 0
    for itself, other in ((each(TRUE_REWARD), each("700 answers")) for each in (scores.iqm, scores.gap)):
        assert np.isnan([itself.low, itself.high]).all()
        assert np.isfinite([other.low, other.high]).all()
    profile = scores.profile(TRUE_REWARD, np.array([0.9]))
    assert profile is not None
    assert np.isnan([profile.low, profile.high]).all()


def test_rows_over_different_tasks_say_so(incomplete: SweepResults, reported: Path) -> None:
    rows = {row[0]: row[1:3] for row in aggregate_table(SweepScores(incomplete))["rows"]}
    assert rows["700 answers"] == ["2 of 2", "4 of 4"]
    assert rows["350 answers"] == ["1 of 2", "2 of 4"]
    text = (reported / "small.md").read_text()
    assert "rows are not over the same tasks" in text
    common = aggregate_table(SweepScores(incomplete).comparable)
    assert {row[0]: row[1:3] for row in common["rows"]} == {
        TRUE_REWARD: ["1 of 1", "2 of 2"],
        "700 answers": ["1 of 1", "2 of 2"],
        "350 answers": ["1 of 1", "2 of 2"],
    }
    assert "## Over hopper\n" in text
    assert "![Scores over hopper](profiles.svg)" in text
    assert "one run, which counts as exact: true reward: reacher; 700 answers: reacher." in text


@pytest.mark.usefixtures("undrawn")
def test_rows_over_different_seeds_say_so_and_promise_no_more_than_the_fewest_hold(tmp_path: Path) -> None:
    """Every condition has a run on every task, but one lacks a seed on one of them."""
    results = swept(
        small_sweep(seeds=(0, 1, 2)),
        lambda trial: (trial.task, trial.condition, trial.seed) != ("hopper", "350 answers", 2),
    )
    write_results(results, tmp_path)
    build_sweep_report(tmp_path)
    text = (tmp_path / "small.md").read_text()
    assert "rows are not over the same seeds" in text
    assert "rows are not over the same tasks" not in text
    assert "of one task with 2 seeds" in text, "not 3"


@pytest.mark.usefixtures("undrawn")
def test_a_finished_sweep_has_nothing_to_warn_of(tmp_path: Path) -> None:
    results = swept(small_sweep())
    write_results(replace(results, outcomes=tuple(replace(each, alarms=[]) for each in results.outcomes)), tmp_path)
    build_sweep_report(tmp_path)
    lines = (tmp_path / "small.md").read_text().splitlines()
    assert lines[2] == "2 tasks · 3 conditions · 2 seeds each; 12 of 12 trials are finished."
    assert not [line for line in lines if line.startswith("**")]


@pytest.mark.usefixtures("undrawn")
def test_counts_of_one_are_singular_and_one_run_has_no_interval(tmp_path: Path) -> None:
    conditions = {TRUE_REWARD: {"feedback": "none"}, "700 answers": {"labels": 700}}
    sweep = small_sweep(tasks=("hopper",), conditions=conditions, seeds=(0,))
    write_results(swept(sweep, finished=lambda trial: trial.condition == TRUE_REWARD), tmp_path)
    build_sweep_report(tmp_path)
    lines = (tmp_path / "small.md").read_text().splitlines()
    assert lines[2] == "1 task · 2 conditions · 1 seed each; 1 of 2 trials is finished."
    assert lines[4].startswith("**1 of 2 trials is not finished;")
    assert lines[6].startswith("**Over all tasks, there are no intervals of true reward: no task has two runs each")


@pytest.mark.parametrize("done", [("hopper",), ()])
def test_panels_of_tasks_without_a_run_have_the_axis_of_the_sweep(done: tuple[str, ...]) -> None:
    results = swept(small_sweep(drawings=("learning",)), finished=lambda trial: trial.task in done)
    figure = next(sweep_figures(SweepScores(results))).figure
    hopper, reacher = figure.axes
    assert hopper.get_xlim()[1] == reacher.get_xlim()[1] > 1e6  # the paper's values stand beyond
    ticks = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    assert ticks == ["0", "250k", "500k", "750k", "1M"] * 2


def test_the_captions_of_many_conditions_speak_of_no_bands() -> None:
    captions = {}
    for count in (plots.MOST_BANDS, plots.MOST_BANDS + 1):
        answers = {f"{50 * i} answers": {"labels": 50 * i} for i in range(1, count)}
        sweep = small_sweep(conditions={TRUE_REWARD: {"feedback": "none"}, **answers}, drawings=("profiles",))
        captions[count] = next(sweep_figures(SweepScores(swept(sweep)))).caption
    assert [caption.split(" are ")[0] for caption in captions.values()] == ["Bars and bands", "Bars"]


def test_the_coverage_that_the_page_tells_is_the_one_measured() -> None:
    result = json.loads((EXPERIMENTS / "results" / "interval_coverage" / "interval_coverage.json").read_text())
    sweeps, found = result["options"]["sweeps"], {}
    for case in result["cases"]:
        shares = sorted(round(100 * each["inside"] / sweeps) for each in case["found"].values())
        found[case["tasks"], case["seeds"]] = (shares[0], shares[-1])
    assert sweeps == 250
    assert found == COVERAGE


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("tasks", "seeds", "sentence", "width"),
    [
        (
            2,
            2,
            "held the truth in 43 to 68 % of 250 simulated sweeps of one task with 2 seeds",
            "Of 2 seeds .*9.0 standard",
        ),
        (
            6,
            4,
            "held the truth in 86 to 88 % of 250 simulated sweeps of 4 tasks with 3 seeds",
            "Of 4 seeds .*1.6 standard",
        ),
        (2, 1, "count the random policy's return as exact; and a task with one", "One seed has no interval"),
    ],
)
def test_a_page_says_how_sure_so_few_runs_are(
    tasks: int, seeds: int, sentence: str, width: str, tmp_path: Path
) -> None:
    sweep = small_sweep(tasks=tuple(RANDOM)[-tasks:], seeds=tuple(range(seeds)), notes={}, drawings=())
    write_results(swept(sweep), tmp_path)
    build_sweep_report(tmp_path)
    text = (tmp_path / "small.md").read_text()
    assert sentence in text
    assert re.search(width, text)


@pytest.mark.usefixtures("undrawn")
def test_the_coverage_told_is_that_of_the_row_with_the_fewest_tasks(tmp_path: Path) -> None:
    sweep = small_sweep(tasks=tuple(RANDOM)[:4], seeds=(0, 1, 2), notes={}, drawings=())
    for there, kind in ((4, "4 tasks"), (1, "one task")):
        left_out = {(task, "350 answers") for task in sweep.tasks[there:]}
        results = swept(sweep)
        kept = tuple(each for each in results.outcomes if (each.task, each.condition) not in left_out)
        write_results(replace(results, outcomes=kept), tmp_path)
        build_sweep_report(tmp_path)
        assert f"simulated sweeps of {kind} with 3 seeds" in (tmp_path / "small.md").read_text()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed; make test says how to change that")
def test_all_columns_of_eight_conditions_are_on_the_screen_and_on_paper(tmp_path: Path) -> None:
    sweep = replace(sweep_of("figure5"), drawings=())
    write_results(swept(sweep, random=dict.fromkeys(sweep.tasks, -1234.0)), tmp_path)
    page_path = build_sweep_report(tmp_path)
    fit = "[...document.querySelectorAll('.scroll')].map(each => each.scrollWidth <= each.clientWidth)"
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.goto(page_path.as_uri())
        assert page.evaluate(fit) == [True] * 5
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 960, "height": 720})  # a sheet of letter or A4 across, within its margins
        assert page.evaluate(fit) == [True] * 5


def test_reaching_the_baseline_is_by_mean_or_by_its_t_interval() -> None:
    baseline = [0.9, 1.0, 1.1]
    low, _ = stats.t.interval(0.95, df=2, loc=1.0, scale=stats.sem(baseline))
    shares = {
        ("hopper", TRUE_REWARD): baseline,
        ("hopper", "700 answers"): [low + 0.01] * 3,
        ("hopper", "350 answers"): [low - 0.01] * 3,
        ("reacher", TRUE_REWARD): baseline,
        ("reacher", "700 answers"): [1.0, 1.1, 1.2],
        ("reacher", "350 answers"): [0.0] * 3,
    }
    scores = of_shares(shares, seeds=3)
    assert [scores.standing("hopper", name) for name in ("700 answers", "350 answers")] == ["inside", "below"]
    assert scores.standing("reacher", "700 answers") == "above"
    reached = scores.reached("700 answers")
    assert (reached.above, reached.inside, reached.tasks) == (1, 2, 2)
    reached = scores.reached("350 answers")
    assert (reached.above, reached.inside, reached.tasks) == (0, 0, 2)


def test_the_fewest_answers_that_reach_nine_tenths_are_told() -> None:
    conditions = {TRUE_REWARD: {"feedback": "none"}, **{f"{n} answers": {"labels": n} for n in (1400, 50, 200)}}
    shares = {
        ("hopper", TRUE_REWARD): [1.0],
        ("hopper", "50 answers"): [0.89],
        ("hopper", "200 answers"): [0.91],
        ("hopper", "1400 answers"): [0.85],
        ("reacher", TRUE_REWARD): [1.0],
        ("reacher", "50 answers"): [0.5],
        ("reacher", "200 answers"): [0.6],
        ("reacher", "1400 answers"): [0.7],
    }
    scores = of_shares(shares, seeds=1, conditions=conditions)
    assert scores.answers == {"50 answers": 50, "200 answers": 200, "1400 answers": 1400}
    assert list(scores.answers.values()) == [50, 200, 1400]
    assert [scores.enough_answers(task) for task in scores.tasks] == ["200 answers", None]
    assert answers_table(scores)["rows"] == [
        ["hopper", "200", "0.89", "0.91", "0.85"],
        ["reacher", "none of these", "0.50", "0.60", "0.70"],
    ]
    shares["ant", TRUE_REWARD] = shares["ant", "200 answers"] = [1.0]
    more = small_sweep(tasks=("hopper", "reacher", "ant"), seeds=(0,), conditions=conditions)
    unfinished = SweepScores(
        swept(more, lambda trial: (trial.task, trial.condition) in shares, lambda t: shares[t.task, t.condition][0])
    )
    fewest = {row[0]: row[1] for row in answers_table(unfinished)["rows"]}
    assert fewest == {"hopper": "200", "reacher": "none of these", "ant": "≤ 200"}, "50 were not tried on ant"


def test_fewer_seeds_than_the_baselines_settle_no_number_of_answers() -> None:
    conditions = {TRUE_REWARD: {"feedback": "none"}, **{f"{n} answers": {"labels": n} for n in (50, 200, 700)}}
    sweep = small_sweep(tasks=("hopper",), seeds=(0, 1), conditions=conditions)

    def finished(trial: Trial) -> bool:  # one seed of 200 answers, and none of 50
        return trial.condition in (TRUE_REWARD, "700 answers") or (trial.condition, trial.seed) == ("200 answers", 0)

    (row,) = answers_table(SweepScores(swept(sweep, finished, lambda trial: 1.0)))["rows"]
    assert row == ["hopper", "≤ 700", "–", "1.00", "1.00"]


def test_a_page_needs_no_environment(tmp_path: Path) -> None:
    """It may be made where nobody installed that of the sweep."""
    sweep = small_sweep(tasks=("hopper",), drawings=("learning", "profiles"), notes={})
    known = swept(sweep, lambda trial: trial.condition == "700 answers")
    elsewhere = replace(sweep, tasks=("elsewhere:Env-v0",))
    outcomes = tuple(replace(each, task="elsewhere:Env-v0") for each in known.outcomes)
    write_results(replace(known, sweep=elsewhere, outcomes=outcomes), tmp_path)
    assert "elsewhere:Env-v0" in build_sweep_report(tmp_path).read_text()


@pytest.mark.usefixtures("undrawn")
def test_a_task_without_a_scale_is_left_out_and_named(tmp_path: Path) -> None:
    shares = {
        (task, name): [share]
        for task, share in (("hopper", 0.5), ("reacher", -0.1), ("ant", 0.5))
        for name in small_sweep().conditions
    }
    results = swept(
        small_sweep(tasks=("hopper", "reacher", "ant"), seeds=(0,), drawings=("answers",)),
        share=lambda trial: shares[trial.task, trial.condition][0],
        random={"hopper": 500.0, "reacher": -12.0},
    )
    scores = SweepScores(results)
    assert scores.unscored == {
        "reacher": "true reward is no better than random",
        "ant": "the random policy's return was not measured",
    }
    assert scores.runs("700 answers") == 1
    assert scores.iqm("700 answers").value == pytest.approx(1)
    write_results(results, tmp_path)
    words = Page(build_sweep_report(tmp_path)).words
    assert "reacher: true reward is no better than random; ant: the random policy's return was not measured" in words


def test_a_sweep_without_a_finished_trial_has_a_page(tmp_path: Path) -> None:
    write_results(swept(small_sweep(), finished=lambda trial: False), tmp_path)
    words = Page(build_sweep_report(tmp_path)).words
    assert "0 of 12 trials are finished" in words
    assert "hopper, reacher: no run of true reward is finished." in words
    assert words.count("not measured") >= 5  # in the panels


def test_a_sweep_without_a_baseline_has_returns_alone(tmp_path: Path) -> None:
    sweep = small_sweep(baseline=None, drawings=("learning",), paper={}, notes={})
    write_results(swept(sweep), tmp_path)
    build_sweep_report(tmp_path)
    text = (tmp_path / "small.md").read_text()
    assert "## Final true return" in text
    assert "score of" not in text
    assert "paper" not in text
    assert "Normalised" not in text
    assert not (tmp_path / "profiles.svg").exists()


def test_names_are_shown_not_run(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>|$x_{"
    conditions = {TRUE_REWARD: {"feedback": "none"}, hostile: {"labels": 700}}
    sweep = small_sweep(title=hostile, conditions=conditions, tasks=("hopper",), seeds=(0,), drawings=("learning",))
    write_results(swept(sweep), tmp_path)
    page = Page(build_sweep_report(tmp_path))
    assert not page.all("script")
    assert hostile in page.words
    rows = [line for line in (tmp_path / "small.md").read_text().splitlines() if line.startswith("|")]
    assert not any("<script>" in row for row in rows)


def test_cells_of_markdown_stay_within_their_row() -> None:
    table = {"columns": [{"title": "a|b", "number": False}, {"title": "c", "number": True}], "rows": [["x|y", "1\n2"]]}
    assert markdown(table) == "| a\\|b | c |\n| --- | ---: |\n| x\\|y | 1<br>2 |"


@pytest.mark.parametrize("evaluation", [{}, {"true_return": {"mean": math.nan}}, {"true_return": None}])
def test_a_run_that_was_evaluated_to_no_number_is_refused(evaluation: dict[str, object]) -> None:
    results = swept(small_sweep())
    first, *rest = results.outcomes
    broken = replace(results, outcomes=(replace(first, evaluation=evaluation), *rest))
    with pytest.raises(UserError, match=f"run {first.id} has a final true return of"):
        SweepScores(broken)


def test_damaged_results_are_refused(tmp_path: Path, reported: Path) -> None:
    (tmp_path / "sweep.json").write_text((reported / "sweep.json").read_text())
    (tmp_path / "trials.jsonl").write_text('{"id": 3}\n')
    with pytest.raises(UserError, match="holds no whole results of a sweep"):
        build_sweep_report(tmp_path)


@pytest.mark.parametrize("name", [None, 3, "", "..", "../elsewhere", "/elsewhere"])
def test_results_that_would_name_files_elsewhere_are_refused(tmp_path: Path, reported: Path, name: object) -> None:
    about = json.loads((reported / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps({**about, "name": name}))
    (tmp_path / "trials.jsonl").write_text((reported / "trials.jsonl").read_text())
    with pytest.raises(UserError, match=r"holds no whole results of a sweep: sweep\.json: "):
        build_sweep_report(tmp_path)


def sweep_of(name: str) -> Sweep:
    return load_sweep(str(EXPERIMENTS / f"{name}.py"))[1]


@pytest.mark.parametrize("name", ["figure2", "figure5", "answers", "teachers"])
def test_a_sweep_of_the_repository_asks_for_runs_that_can_be_made(name: str) -> None:
    sweep = sweep_of(name)
    assert len({trial.id for trial in sweep.trials}) == len(sweep.trials)
    assert all(trial.config.steps == 2_000_000 and not trial.config.video for trial in sweep.trials)
    for task, condition in itertools.product(sweep.paper, sweep.conditions):
        assert condition in sweep.paper[task] or condition in ("50 answers", "100 answers", "200 answers"), condition


def test_runs_that_sweeps_share_are_the_same() -> None:
    figure2, figure5, answers, teachers = (
        {(trial.task, trial.condition, trial.seed): trial.id for trial in sweep_of(name).trials}
        for name in ("figure2", "figure5", "answers", "teachers")
    )
    for (task, condition, seed), run in figure2.items():
        assert answers[task, condition, seed] == run
    for (task, condition, seed), run in figure5.items():
        names = {"original": "700 answers", TRUE_REWARD: TRUE_REWARD}
        assert (run in figure2.values()) == (condition in names)
        if condition in names:
            assert figure2[task, names[condition], seed] == run
    assert teachers["ant", "perfect", 1] == figure2["ant", "700 answers", 1]


def test_the_papers_figures_are_about_its_eight_tasks() -> None:
    assert list(FIGURE_2) == list(FIGURE_5)
    assert len(FIGURE_2) == 8
    assert FIGURE_2["reacher"]["350 answers"] == -6.3
    assert FIGURE_5["double-pendulum"]["no segments"] == -900
