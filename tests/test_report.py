import base64
import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefrl.calibration import calibrate
from prefrl.clips import write_video
from prefrl.errors import UserError
from prefrl.preferences import Answer, PreferenceStore
from prefrl.queries import Query
from prefrl.report import build_report, compare_report, load_run
from prefrl.report.html import duration, inline_svg, number
from prefrl.segments import Segment

HOSTILE = "<script>alert('x')</script>&\"$x_{"


class Page(HTMLParser):
    """The tags with their attributes, and the words, of an HTML file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._style = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.words += " ".join(data.split()) + " "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]


def write_run(path: Path, rows: int = 12, state: str = "done", env_steps: int = 98_304, **config: Any) -> Path:
    """A run directory with metrics that say nothing in particular; config entries of None are left out."""
    path.mkdir(parents=True)
    described: dict[str, Any] = {
        "task": "hopper-backflip",
        "seed": 3,
        "steps": 100_000,
        "labels": 900,
        "feedback": "synthetic",
        "versions": {"torch": "2.13.0"},
        "git_revision": "abc123",
        "machine": {"cores": 2},
        "options": {"horizon": 1000, "ppo": {"gamma": 0.99, "hidden": [64, 64]}},
    } | config
    (path / "config.json").write_text(json.dumps(described))
    status = {"state": state, "env_steps": env_steps, "steps": 100_000, "message": "why <it> ended"}
    (path / "status.json").write_text(json.dumps(status))
    columns = ["env_steps", "seconds", "steps_per_second", "true_return", "share/ppo", "ppo/approx_kl"]
    if described["feedback"] != "none":
        columns += ["predicted_return", "reward/mean", "reward/std", "reward/correlation", "reward/segment_correlation"]
        columns += ["labels/wanted", "labels/asked", "labels/answered", "fit/train_loss", "fit/accuracy", "fit/l2"]
    rng = np.random.default_rng(described["seed"])
    with (path / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in range(1, rows + 1):
            empty = "" if row % 3 else 50.0 * row
            writer.writerow([8192 * row, 70.5 * row, 4000, empty, 0.5, *np.round(rng.random(len(columns) - 5), 4)])
    return path


def write_evaluation(path: Path) -> None:
    summary = {"mean": 7.25, "std": 0.5, "values": [7.0, 7.5]}
    returns = {"mean": 8123.4, "std": 20, "values": [8103.4, 8143.4]}
    content = {"episodes": 2, "env_steps": 98304, "true_return": returns, "measures": {"turns": summary}}
    (path / "evaluation.json").write_text(json.dumps(content))


def write_videos(path: Path, *names: str) -> None:
    frames = np.zeros((3, 32, 48, 3), dtype=np.uint8)
    for name in names:
        write_video(path / "videos" / f"{name}.mp4", frames, fps=10)


def write_answers(path: Path, labeller: str) -> None:
    with PreferenceStore(path / "preferences.db") as store:
        segments = [
            Segment(np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32), np.zeros(2, np.float32), None, None, 0)
            for _ in range(2)
        ]
        query = store.add_queries([Query(tuple(segments))])[0]
        assert query.id is not None
        for choice in ("left", "left", "cant_tell"):
            answer = Answer.from_choice(query.id, choice, labeller=labeller, shown_at=0.0, answered_at=1.0)
            store.add_answers([answer])


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that lacks nothing, with its report."""
    run = write_run(tmp_path_factory.mktemp("runs") / "run")
    write_evaluation(run)
    write_videos(run, "025", "050", "075", "final")
    write_answers(run, "synthetic")
    assert build_report(run) == run / "report.html"
    return run


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_ratio_that_l2_aims_at_is_shown_where_it_aims_at_one(tmp_path: Path, adaptive: bool) -> None:
    run = write_run(tmp_path / "run", options={"reward": {"adaptive_l2": adaptive}})
    text = (run / "metrics.csv").read_text().replace("labels/wanted", "fit/validation_loss")
    (run / "metrics.csv").write_text(text)
    page = build_report(run).read_text()
    assert ("The ℓ2 coefficient is adapted" in page) == ("1.1 to 1.5 times training" in page) == adaptive


def test_what_an_ablation_leaves_out_is_not_claimed(tmp_path: Path) -> None:
    pages = {}
    for target, online in (("returns", True), ("comparisons", False)):
        run = write_run(tmp_path / target, options={"reward": {"target": target}, "queries": {"online": online}})
        pages[target] = build_report(run).read_text()
    assert ("never saw a reward" in pages["returns"], "never saw a reward" in pages["comparisons"]) == (False, True)
    assert "Trained from the true returns of up to" in pages["returns"]
    assert "A quarter of the labels is asked about the random policy" in pages["returns"]
    assert "All labels are asked about the random policy" in pages["comparisons"]


def test_a_report_is_one_file_without_scripts_or_references(complete: Path) -> None:
    page = Page(complete / "report.html")
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "img")]
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:video/mp4;base64,")), (tag, name, value)
    assert not re.search(r"https?:|url\((?!#)|@import", (complete / "report.html").read_text())
    assert "default-src 'none'" in str([meta.get("content") for meta in page.all("meta")])
    assert not list(complete.glob("*.unfinished"))


def test_a_report_holds_the_videos_byte_for_byte(complete: Path) -> None:
    embedded = [str(video["src"]).partition("base64,")[2] for video in Page(complete / "report.html").all("video")]
    files = [(complete / "videos" / f"{name}.mp4").read_bytes() for name in ("final", "025", "050", "075")]
    assert [base64.b64decode(each) for each in embedded] == files


def test_a_report_tells_what_the_run_did(complete: Path) -> None:
    page = Page(complete / "report.html")
    for expected in (
        "hopper-backflip",
        "done",
        "900 synthetic answers",
        "7.25 backward turns per 8 s, mean of the final evaluation",
        "8,123 ± 20",
        "98,304 of 100,000",
        "14 min 06 s",
        "7.50",
        "can't tell",
        "abc123",
        "torch 2.13.0",
        "gamma 0.99",
        "hidden [64, 64]",
        "synthetic 2 0 0 1 0 0 3",
    ):
        assert expected in page.words
    assert len(page.all("svg")) == 7


def test_ids_on_the_page_are_unique_and_references_lead_somewhere(complete: Path) -> None:
    path = complete / "report.html"
    ids = [attributes["id"] for _, attributes in Page(path).tags if "id" in attributes]
    assert ids
    assert len(ids) == len(set(ids))
    references = re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", path.read_text())
    assert references
    assert {first or second for first, second in references} <= set(ids)


def test_hostile_names_are_shown_not_run(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "<i>run", rows=3, task=HOSTILE, git_revision=HOSTILE, options={HOSTILE: HOSTILE}, feedback=HOSTILE
    )
    write_answers(run, HOSTILE)
    page = Page(build_report(run))
    comparison = Page(compare_report([run], tmp_path / "comparison.html"))
    for each in (page, comparison):
        assert not each.all("script")
        assert not each.all("i")
        assert HOSTILE in each.words
        assert "<i>run" in each.words


@pytest.mark.parametrize(
    ("accuracy", "spread", "warnings"),
    [(0.8, 0.3, []), (0.51, 0.3, ["right about 51%"]), (0.8, 0.001, ["lie 0.001 deviations apart"])],
)
def test_a_predictor_that_guesses_or_has_collapsed_is_warned_about(
    tmp_path: Path, accuracy: float, spread: float, warnings: list[str]
) -> None:
    run = write_run(tmp_path / "run", rows=0)
    with (run / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["env_steps", "reward/mean", "reward/std", "reward/correlation", "fit/accuracy", "reward/spread"]
        )
        writer.writerows([8192 * i, 0, 1, 0.9, accuracy, spread] for i in range(1, 30))
    words = Page(build_report(run)).words
    assert words.count("Warning:") == len(warnings)
    for warning in warnings:
        assert warning in words


def write_metrics(run: Path, **columns: Any) -> None:
    rows = len(next(iter(columns.values())))
    with (run / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["env_steps", *columns])
        writer.writerows(zip(8192 * np.arange(1, 1 + rows), *columns.values(), strict=True))


def hacked(rows: int = 96) -> dict[str, Any]:
    """Columns of metrics.csv: the predicted return climbs throughout, the true one falls in the second half."""
    x = np.linspace(0, 1, rows)
    return {"true_return": 3000 * np.minimum(x, 1 - x), "predicted_return": 500 * x, "reward/correlation": 1 - x}


def test_an_alarm_stands_at_the_top_of_the_page_and_in_a_comparison(tmp_path: Path) -> None:
    run, healthy = write_run(tmp_path / "run", rows=0), write_run(tmp_path / "healthy", rows=0)
    write_metrics(run, **hacked())
    write_metrics(healthy, **{**hacked(), "true_return": np.linspace(0, 1, 96)})
    found = load_run(run).alarms
    assert found
    words = Page(build_report(run)).words
    for alarm in found:
        assert words.index(f"Alarm: {alarm.sentence}.") < words.index("Final evaluation")
        assert words.count(alarm.sentence) == 2, "at the top and in its section"
    assert f"reward hacking {len(found)} alarm" in words
    other = Page(build_report(healthy)).words
    assert "Alarm:" not in other
    assert "reward hacking no alarm" in other
    assert "No alarm: within no quarter of the run" in other
    both = Page(compare_report([run, healthy], tmp_path / "both.html")).words
    assert f"Alarm, run: {found[0].sentence}." in both
    assert "Alarm, healthy" not in both


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"feedback": "people"}, True),
        ({"options": {"oracle": {"score": "judge"}}}, True),
        ({"options": {"oracle": {"score": "reward"}}}, False),
        ({"options": {"oracle": "damaged"}}, False),
    ],
)
def test_where_others_than_the_reward_answered_it_is_not_taken_for_their_wish(
    tmp_path: Path, config: dict[str, Any], said: bool
) -> None:
    run = write_run(tmp_path / "run", rows=0, **config)
    write_metrics(run, **hacked())
    assert ("need not be what the answers prefer" in Page(build_report(run)).words) == said


@pytest.mark.parametrize(
    ("rises", "climbs", "warned"),
    [(0.0, 500.0, True), (20.0, 500.0, True), (100.0, 500.0, False), (0.0, 0.0, False), (0.0, -500.0, False)],
)
def test_a_policy_that_only_ever_pleased_its_predictor_is_told_of(
    tmp_path: Path, rises: float, climbs: float, warned: bool
) -> None:
    """As pendulums that lie throughout, at a return of -1440: there is no fall to raise an alarm."""
    x, noise = np.linspace(0, 1, 96), np.random.default_rng(0).standard_normal((2, 96))
    run = write_run(tmp_path / "run", rows=0)
    write_metrics(run, true_return=-1440 + rises * x + noise[0], predicted_return=climbs * x + 10 * noise[1])
    assert not load_run(run).alarms
    words = Page(build_report(run)).words
    assert ("never came to more than" in words) == warned
    assert ("pleases its predictor and nobody else" in words) == warned


@pytest.mark.parametrize(("ends", "climbs", "warned"), [(1500, 500, True), (2900, 500, False), (1500, -500, False)])
def test_a_true_return_that_sinks_too_slowly_for_an_alarm_is_told_of(
    tmp_path: Path, ends: float, climbs: float, warned: bool
) -> None:
    """It rises for a quarter of the run to 3000."""
    x = np.linspace(0, 1, 480)
    run = write_run(tmp_path / "run", rows=0)
    write_metrics(run, true_return=np.interp(x, [0, 0.25, 1], [0, 3000, ends]), predicted_return=climbs * x)
    assert not load_run(run).alarms
    assert ("the true return has sunk from" in Page(build_report(run)).words) == warned


@pytest.mark.parametrize(("feedback", "reward"), [("synthetic", 0.0), ("people", 1.0)])
def test_nothing_is_said_of_a_true_return_that_nobody_knows_or_asked_for(
    tmp_path: Path, feedback: str, reward: float
) -> None:
    run = write_run(tmp_path / "run", rows=0, feedback=feedback)
    noise = np.random.default_rng(0).standard_normal(96)
    write_metrics(run, true_return=reward * (noise - 1440), predicted_return=500 * np.linspace(0, 1, 96))
    assert "never came to more than" not in Page(build_report(run)).words


def test_a_run_of_a_few_iterations_is_too_short_for_alarms(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows=0)
    for rows, expected in ((23, "reward hacking too short to tell"), (24, "reward hacking 1 alarm")):
        write_metrics(run, **hacked(rows))
        assert expected in Page(build_report(run)).words


def test_calibration_is_drawn_with_its_table(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    before = len(Page(build_report(run)).all("svg"))
    assert "the run left no calibration.json" in Page(run / "report.html").words
    found = calibrate(np.array([0.12, 0.14, 0.95, 0.93]), np.array([0.0, 1.0, 1.0, 1.0]), np.array([1, 1, 2, 3]))
    assert found is not None
    (run / "calibration.json").write_text(json.dumps({"env_steps": 4, **found.as_json()}))
    page = Page(build_report(run))
    assert "10% to 20% 13.0% 50.0% 2 1" in page.words
    assert "90% to 100% 94.0% 100.0% 2 2" in page.words
    assert f"On 4 held-out predictions the expected calibration error is {(0.37 + 0.06) / 2:.3f}" in page.words
    assert "sure by 90% on average, and right about 75%" in page.words
    assert "no calibration.json" not in page.words
    assert len(page.all("svg")) == before + 1
    (run / "calibration.json").write_text("{}")
    assert "calibration.json could not be read" in Page(build_report(run)).words


def test_a_run_without_video_says_so(tmp_path: Path) -> None:
    page = Page(build_report(write_run(tmp_path / "run", rows=0)))
    assert not page.all("video")
    assert "The final policy: no video" in page.words


def test_a_run_on_the_true_reward_has_no_predictor_to_show(tmp_path: Path) -> None:
    page = Page(build_report(write_run(tmp_path / "run", rows=1, feedback="none", labels=0)))
    assert "Trained on the true reward" in page.words
    assert "no predictor to compare" in page.words
    assert "asked for no labels" in page.words
    assert "answered of" not in page.words


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("stopped", "was stopped at 98,304 of 100,000 steps: why <it> ended"),
        ("failed", "failed at 98,304 of 100,000 steps: why <it> ended"),
        ("running", "had not ended when the report was written; it stood at 98,304"),
    ],
)
def test_a_run_that_did_not_finish_says_where_it_stood(tmp_path: Path, state: str, sentence: str) -> None:
    page = Page(build_report(write_run(tmp_path / "run", rows=0, state=state)))
    assert sentence in page.words
    assert "There is no final evaluation" in page.words


def test_a_run_that_ended_before_its_first_row_has_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows=0, state="failed", env_steps=0)
    page = Page(build_report(run))
    assert "failed at 0 of 100,000 steps" in page.words
    assert "metrics.csv holds no finished row" in page.words
    assert not page.all("svg")
    (run / "metrics.csv").unlink()
    assert "metrics.csv is missing or empty" in Page(build_report(run)).words


def test_broken_files_are_named_in_the_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows=0)
    (run / "evaluation.json").write_text('{"episodes": ')
    (run / "status.json").unlink()
    (run / "preferences.db").write_bytes(b"no database" * 100)
    words = Page(build_report(run)).words
    assert "evaluation.json could not be read" in words
    assert "status.json is missing" in words
    assert "preferences.db could not be read" in words


def test_values_that_were_not_measured_are_dashes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows=0)
    nothing = {"mean": float("nan"), "std": None, "values": [float("nan"), 2.0]}
    (run / "evaluation.json").write_text(json.dumps({"episodes": 2, "true_return": nothing, "measures": {}}))
    assert "true return – – – 2" in Page(build_report(run)).words


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither config\.json nor metrics\.csv"):
        build_report(tmp_path)
    with pytest.raises(UserError, match="no run given"):
        compare_report([], tmp_path / "comparison.html")


def test_a_comparison_draws_a_line_per_condition_and_lists_every_run(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"a{seed}", task="cheetah", labels=700, seed=seed) for seed in range(2)]
    runs.append(write_run(tmp_path / "b", task="cheetah", feedback="none", labels=0))
    runs.append(write_run(tmp_path / "c", task="hopper", rows=0))
    write_evaluation(runs[0])
    page = Page(compare_report(runs, tmp_path / "new" / "comparison.html"))
    assert "4 runs of cheetah, hopper" in page.words
    titles = [attributes["aria-label"] for attributes in page.all("svg")]
    assert titles == ["cheetah", "Predicted against true return"], "the hopper run has nothing to draw"
    for words in ("700 synthetic answers (2 seeds)", "true reward", "paper, 700 labels", "8,123 ± 20", "7.25 ± 0.50"):
        assert words in page.words
    assert len(page.all("tr")) == 1 + len(runs)


def test_runs_with_other_options_are_not_taken_for_other_seeds(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"{gamma}-{seed}", rows=3, seed=seed, options={"seed": seed, "ppo": {"gamma": gamma}})
        for gamma in (0.9, 0.99)
        for seed in (0, 1)
    ]
    words = Page(compare_report(runs, tmp_path / "comparison.html")).words
    assert "900 synthetic answers, ppo.gamma 0.9 (2 seeds)" in words
    assert "900 synthetic answers, ppo.gamma 0.99 (2 seeds)" in words


def test_load_run_reads_what_is_there(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run"))
    assert (run.name, run.task, run.labels, run.state, run.env_steps) == ("run", "hopper-backflip", 900, "done", 98304)
    assert run.seconds == pytest.approx(70.5 * 12)
    assert run.condition == "900 synthetic answers"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7.25, "7.25"),
        (-1.8, "−1.80"),
        (1234567.4, "1,234,567"),
        (0.01234, "0.0123"),
        (1.23e-9, "1.23e−09"),
        (None, "–"),
        (float("nan"), "–"),
        ("text", "–"),
    ],
)
def test_numbers_are_written_for_people(value: Any, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(9.6, "10 s"), (640, "10 min 40 s"), (3720, "1 h 02 min"), (np.nan, "–")]
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_inline_svg_keeps_its_inner_references() -> None:
    svg = '<?xml version="1.0"?><svg width="5pt" height="5pt" viewBox="0 0 5 5" xmlns="http://www.w3.org/2000/svg">'
    svg += '<metadata>http://x</metadata><path id="p"/><use xlink:href="#p"/><g clip-path="url(#p)"/></svg>'
    assert str(inline_svg(svg, "f1-", 'A "title"')) == (
        '<svg viewBox="0 0 5 5" role="img" aria-label="A &#34;title&#34;">'
        '<path id="f1-p"/><use href="#f1-p"/><g clip-path="url(#f1-p)"/></svg>'
    )
