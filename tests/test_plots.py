from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from scipy import stats

from prefrl import plots
from prefrl.calibration import calibrate
from prefrl.errors import UserError
from prefrl.metrics import Metrics
from prefrl.plots import Aggregate, Curve, Estimate, Profile, TaskAnswers, TaskCurves, TaskFinals, TaskPredictions

DRAWINGS = (
    plots.reward_diagnostics,
    plots.trust_curves,
    plots.return_comparison,
    plots.fit_curves,
    plots.label_curve,
    plots.stage_shares,
    plots.measure_curves,
    plots.ppo_curves,
)


COLUMNS = (
    *("true_return", "predicted_return", "steps_per_second", "measure/turns"),
    *("reward/mean", "reward/std", "reward/correlation", "labels/wanted", "labels/asked", "labels/answered"),
    *("fit/train_loss", "fit/validation_loss", "fit/l2", "fit/accuracy"),
    *("reward/spread_ratio", "held_out/calibration_error", "held_out/accuracy", "held_out/confidence"),
    *("share/simulate", "share/ppo", "ppo/approx_kl", "ppo/entropy", "ppo/value_loss"),
)


def some_metrics(rows: int = 50, seed: int = 0) -> Metrics:
    rng = np.random.default_rng(seed)
    metrics: Metrics = {name: np.asarray(rng.random(rows), dtype=np.float64) for name in COLUMNS}
    metrics["env_steps"] = np.linspace(8192.0, 8192.0 * rows, rows)
    metrics["true_return"][1::2] = np.nan
    metrics["measure/turns"][:] = np.nan
    metrics["measure/turns"][::10] = 3.0
    return metrics


def lines(figure: Figure) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Label -> x and y of every line with a name."""
    found = [line for axes in figure.axes for line in axes.lines if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in found}


def written(figure: Figure) -> str:
    """Every word on the figure."""
    return " ".join("".join(each.itertext()) for each in ElementTree.fromstring(plots.to_svg(figure)).iter())


def test_a_line_joins_the_measured_rows() -> None:
    metrics = some_metrics(4)
    metrics["true_return"] = np.array([1.0, np.nan, np.nan, 4.0])
    x, y = lines(plots.learning_curves([plots.curve("run", metrics)]))["run"]
    np.testing.assert_array_equal(x, metrics["env_steps"][[0, 3]])
    np.testing.assert_array_equal(y, [1.0, 4.0])


def test_seeds_become_a_mean_with_a_band_from_lowest_to_highest() -> None:
    steps = np.array([0.0, 100.0])
    runs: list[Metrics] = [{"env_steps": steps, "true_return": steps * slope} for slope in (1.0, 2.0, 6.0)]
    both = plots.curve_over_seeds("three", runs, points=5)
    np.testing.assert_allclose(both.values, np.linspace(0, 300, 5))
    assert both.low is not None
    assert both.high is not None
    np.testing.assert_allclose(both.low, np.linspace(0, 100, 5))
    np.testing.assert_allclose(both.high, np.linspace(0, 600, 5))


def test_the_interval_is_the_t_interval_of_the_mean() -> None:
    steps = np.array([0.0, 100.0])
    finals = np.array([3.0, 4.0, 8.0])
    runs: list[Metrics] = [{"env_steps": steps, "true_return": np.full(2, final)} for final in finals]
    interval = plots.curve_over_seeds("three", runs, band="interval", points=2)
    low, high = stats.t.interval(0.95, df=2, loc=finals.mean(), scale=stats.sem(finals))
    assert interval.low is not None
    assert interval.high is not None
    np.testing.assert_allclose([interval.low[-1], interval.high[-1]], [low, high])


def test_a_curve_over_seeds_ends_where_the_shortest_run_does() -> None:
    runs: list[Metrics] = [
        {"env_steps": np.array([10.0, 50.0, 100.0]), "true_return": np.array([np.nan, 1.0, 1.0])},
        {"env_steps": np.array([10.0, 50.0, 80.0]), "true_return": np.array([1.0, 1.0, 1.0])},
    ]
    both = plots.curve_over_seeds("two", runs)
    assert (both.env_steps[0], both.env_steps[-1]) == (50.0, 80.0)
    with pytest.raises(UserError, match="none of the 1 runs"):
        plots.curve_over_seeds("none", [{"env_steps": np.array([1.0])}])


def test_each_line_differs_in_colour_and_in_dashes() -> None:
    curves = [plots.Curve(str(i), np.array([0.0, 1.0]), np.array([0.0, i])) for i in range(6)]
    axes = plots.learning_curves(curves, {"paper": 3.0}).axes[0]
    drawn = [line for line in axes.lines if str(line.get_label()) in "012345"]
    assert len({str(line.get_color()) for line in drawn}) == 6
    assert len({str(line._dash_pattern) for line in drawn}) == 6  # type: ignore[attr-defined]
    assert "paper" in lines(axes.get_figure())  # type: ignore[arg-type]
    assert not axes.spines["top"].get_visible()


@pytest.mark.parametrize("draw", DRAWINGS)
def test_every_figure_survives_missing_data(draw: Callable[[Metrics], Figure]) -> None:
    nothing: Metrics = {name: np.empty(0) for name in ("env_steps", *COLUMNS)}
    only_nan = {name: values * np.nan for name, values in some_metrics(3).items()} | {"env_steps": np.arange(3.0)}
    for metrics in ({}, nothing, only_nan):
        assert "not measured" in written(draw(metrics))
    assert "not measured" not in written(draw(some_metrics(1)))


def test_text_is_taken_literally(tmp_path: Path) -> None:
    figure = plots.learning_curves(
        [plots.Curve("$x & <b>", np.arange(2.0), np.arange(2.0))], {"$\\bad": 1.0}, title="a_b$"
    )
    words = written(figure)
    assert "$x & <b>" in words
    assert "$\\bad" in words
    assert "a_b$" in words


def test_shares_are_named_and_stacked_to_one() -> None:
    metrics = some_metrics(10)
    metrics["share/simulate"], metrics["share/ppo"] = np.full(10, 0.25), np.full(10, 0.75)
    figure = plots.stage_shares(metrics)
    words = written(figure)
    assert "PPO (75%)" in words
    assert "simulating (25%)" in words
    tops = [np.asarray(band.get_paths()[0].vertices)[:, 1].max() for band in figure.axes[0].collections]
    assert max(tops) == pytest.approx(1.0)


def test_a_figure_is_saved_as_svg_and_png_and_alike_each_time(tmp_path: Path) -> None:
    svg, png = plots.save(plots.label_curve(some_metrics()), tmp_path / "figures" / "labels.v1")
    assert (svg.name, png.name) == ("labels.v1.svg", "labels.v1.png")
    again, _ = plots.save(plots.label_curve(some_metrics()), tmp_path / "again")
    assert svg.read_bytes() == again.read_bytes()
    with Image.open(png) as picture:
        assert picture.size[0] > 800


def test_a_reliability_diagram_shows_each_bin_with_wilsons_interval() -> None:
    rng = np.random.default_rng(0)
    left = rng.random(300)
    found = calibrate(left, (rng.random(300) < left).astype(float), np.arange(300))
    assert found is not None
    above, below = plots.reliability(found).axes
    points = next(each for each in above.lines if each.get_marker() == "o")
    np.testing.assert_allclose(np.asarray(points.get_xdata(), float), [each.predicted for each in found.bins])
    np.testing.assert_allclose(np.asarray(points.get_ydata(), float), [each.preferred for each in found.bins])
    lows, highs = (np.asarray(each.get_ydata(), float) for each in above.lines if each.get_marker() == "_")
    for each, low, high in zip(found.bins, lows, highs, strict=True):
        expected = stats.binomtest(round(each.preferred * each.answers), each.answers).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-4)
    heights = [bar.get_height() for bar in below.patches if isinstance(bar, Rectangle)]
    assert heights == [each.predictions for each in found.bins]


def test_marked_stretches_are_shaded_in_both_panels() -> None:
    marked = plots.return_comparison(some_metrics(), [(1e4, 3e4), (5e4, 6e4)])
    assert [len(axes.patches) for axes in marked.axes] == [2, 2]
    assert [len(axes.patches) for axes in plots.return_comparison(some_metrics()).axes] == [0, 0]


CONDITIONS = ("true reward", *"abcdefg")


def rising(label: str, top: float, band: float = 0.0) -> Curve:
    steps = np.linspace(0.0, 2e6, 100)
    values = top * steps / 2e6
    return Curve(label, steps, values, values - band, values + band)


def markers_at(figure: Figure, x: float) -> list[tuple[str, float]]:
    """(marker, y) of every single point that lies to the right of x."""
    found = [line for axes in figure.axes for line in axes.lines if len(np.atleast_1d(line.get_xdata())) == 1]
    points = [(str(line.get_marker()), np.ravel(line.get_xdata())[0], np.ravel(line.get_ydata())[0]) for line in found]
    return [(marker, float(y)) for marker, at, y in points if at > x]


def test_conditions_differ_in_marker_and_dashes_and_are_told_apart_without_colour() -> None:
    looks = plots.looks(CONDITIONS, baseline="true reward")
    assert list(looks) == list(CONDITIONS)
    assert len({look.marker for look in looks.values()}) == 8
    assert len({str(look.line) for name, look in looks.items() if name != "true reward"}) == 7
    assert len({look.colour for look in looks.values()}) == 8
    assert looks["true reward"].colour == "#000000"


def test_more_conditions_than_colours_still_differ_in_dashes_and_marker() -> None:
    looks = list(plots.looks([str(i) for i in range(49)]).values())
    assert len({(look.colour, look.marker) for look in looks}) == 49
    assert len({(look.colour, str(look.line)) for look in looks}) == 49
    assert len({(look.marker, str(look.line)) for look in looks}) == 49, "in black and white"


def test_a_condition_looks_the_same_wherever_the_baseline_stands() -> None:
    first, last = plots.looks(CONDITIONS, "true reward"), plots.looks(CONDITIONS[::-1], "true reward")
    assert first["true reward"] == last["true reward"]
    assert first["a"] == last["g"] == plots.looks(["a"])["a"]


def test_learning_panels_mark_the_papers_values_beyond_the_last_step() -> None:
    looks = plots.looks(["true reward", "700 answers"], "true reward")
    paper = {"700 answers": 4500.0, "true reward": 4180.0, "people, 750 answers": 3300.0}
    curves = [rising("true reward", 3000.0, band=9000.0), rising("700 answers", 2800.0)]
    tasks = [TaskCurves("hopper", curves, paper), TaskCurves("ant", curves, steps=2.1e6)]
    figure = plots.learning_panels(tasks, looks)
    hopper, ant = figure.axes
    assert [hopper.get_title(loc="left"), ant.get_title(loc="left")] == ["hopper", "ant"]
    assert sorted(markers_at(figure, 2e6)) == [("*", 4180.0), ("o", 4500.0)]  # none of a condition that did not run
    assert ant.get_xlim()[1] == 2.1e6
    low, high = hopper.get_ylim()
    assert 4500 < high < 5000  # the interval may run out of the panel, the paper's values may not
    assert -500 < low < 0
    assert "hollow: the paper's final value" in written(figure)


def test_bands_are_left_out_where_they_would_cover_each_other() -> None:
    for count in (plots.MOST_BANDS, plots.MOST_BANDS + 1):
        names = CONDITIONS[:count]
        figure = plots.learning_panels(
            [TaskCurves("hopper", [rising(name, 1.0, band=0.1) for name in names])], plots.looks(names)
        )
        assert len(figure.axes[0].collections) == (count if count <= plots.MOST_BANDS else 0)


def test_markers_of_lines_that_coincide_stay_visible() -> None:
    names = CONDITIONS[:4]
    figure = plots.learning_panels([TaskCurves("hopper", [rising(name, 1.0) for name in names])], plots.looks(names))
    starts = {line.get_markevery()[0] for line in figure.axes[0].lines}  # type: ignore[index]
    assert len(starts) == 4


def test_predicted_panels_lead_through_a_runs_two_returns_to_a_mark_at_its_end() -> None:
    looks = plots.looks(["true reward", "700 answers"], "true reward")
    true = np.where(np.arange(100) % 2, np.nan, np.arange(100.0))  # an episode ends in every other row
    run = {"true_return": true, "predicted_return": 3 * np.arange(100.0)}
    panel = TaskPredictions("hopper", {"true reward": [{"true_return": true}], "700 answers": [run]})
    (axes,) = (figure := plots.predicted_panels([panel], looks)).axes
    unpredicted, line = axes.lines
    assert not np.size(unpredicted.get_xdata())
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert x.tolist() == [4.0 * i + 1 for i in range(25)], "two measured rows to a stage"
    np.testing.assert_allclose(y, 3 * x)
    assert np.arange(25)[line.get_markevery()].tolist() == [24]  # type: ignore[index]
    assert "hopper" in written(figure)
    assert "700 answers" in written(figure)


def test_final_panels_show_every_seed_and_intervals_that_go_on() -> None:
    looks = plots.looks(["a", "b"])
    panel = TaskFinals(
        "hopper",
        {"a": [1.0, 2.0, 3.0], "b": [1.5]},
        {"a": Estimate(2.0, -50.0, 2.5), "b": Estimate(1.5, np.nan, np.nan)},
        {"a": 4.0},
    )
    figure = plots.final_panels([panel], looks)
    (axes,) = figure.axes
    seeds = [np.asarray(line.get_xdata()).tolist() for line in axes.lines if line.get_linestyle() == "None"]
    assert [1.0, 2.0, 3.0] in seeds
    left, right = axes.get_xlim()
    assert left > -2
    assert right > 4
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "<"] == [left]  # type: ignore[index]
    assert not [line for line in axes.lines if line.get_marker() == ">"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_answers_panels_mark_where_enough_is_first_reached() -> None:
    means = [Estimate(100.0 * at, 90.0 * at, 110.0 * at, at) for at in (1.0, 2.0, 4.0)]
    panel = TaskAnswers(
        "hopper",
        means,
        [(4.0, 390.0)],
        baseline=Estimate(210.0, 180.0, 240.0),
        enough=190.0,
        reached=means[1],
        paper=[(4.0, 450.0)],
    )
    figure = plots.answers_panels([panel])
    (axes,) = figure.axes
    rings = [line for line in axes.lines if line.get_markersize() == 9]
    assert [(line.get_xdata(), line.get_ydata()) for line in rings] == [([2.0], [200.0])]
    assert [(text.get_text(), text.get_horizontalalignment()) for text in axes.texts] == [("2", "left")]
    (unsure,) = plots.answers_panels([replace(panel, tried_fewer=False)]).axes
    assert [text.get_text() for text in unsure.texts] == ["≤ 2"]
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(axes.get_xticks(), [1, 2, 4])
    levels = [np.ravel(line.get_ydata())[0] for line in axes.lines if np.ravel(line.get_xdata()).tolist() == [0, 1]]
    assert levels == [210.0, 190.0]


def test_the_number_of_the_most_answers_stands_inside_its_panel() -> None:
    means = [Estimate(at / 7, at / 8, at / 6, at) for at in (50.0, 350.0, 1400.0)]
    panel = TaskAnswers("hopper", means, [], enough=190.0, reached=means[-1])
    figure = plots.answers_panels([panel] * 8)
    axes = figure.axes[0]
    (number,) = axes.texts
    figure.canvas.draw()
    assert number.get_text() == "1400"
    assert number.get_window_extent().x1 < axes.get_window_extent().x1


def test_profiles_are_drawn_as_the_steps_that_they_are() -> None:
    looks = plots.looks(["a", "b"], "a")
    thresholds = np.array([0.0, 0.5, 1.0])
    profile = Profile(thresholds, np.array([1.0, 0.5, 0.25]), np.array([1.0, 0.3, 0.1]), np.array([1.0, 0.8, 0.4]))
    aggregates = [
        Aggregate("mean", {"a": Estimate(1.0, 0.9, 1.1), "b": Estimate(np.nan, np.nan, np.nan)}, 1.0),
        Aggregate("gap", {"a": Estimate(0.1, 0.0, 0.2)}),
    ]
    figure = plots.aggregate_profiles(aggregates, {"a": profile}, looks)
    mean, gap, below = figure.get_axes()
    assert [label.get_text() for label in mean.get_yticklabels()] == ["a", "b"]
    assert gap.get_title(loc="left") == "gap"
    x, y = lines(figure)["a"]
    np.testing.assert_array_equal([x, y], [thresholds, [1.0, 0.5, 0.25]])
    assert [line.get_drawstyle() for line in below.lines if line.get_label() == "a"] == ["steps-post"]
    assert len(below.collections) == 1


def test_figures_of_a_sweep_survive_missing_data() -> None:
    looks = plots.looks(["a"])
    unknown = Estimate(np.nan, np.nan, np.nan)
    for figure in (
        plots.learning_panels([TaskCurves("hopper", [])], looks),
        plots.learning_panels([TaskCurves("hopper", [], {"a": 1.0})], looks),
        plots.answers_panels([TaskAnswers("hopper", [], [])]),
        plots.predicted_panels([TaskPredictions("hopper", {})], looks),
        plots.aggregate_profiles([Aggregate("mean", {"a": unknown})], {}, looks),
    ):
        assert "not measured" in written(figure)
    assert "hopper" in written(plots.final_panels([TaskFinals("hopper", {}, {})], looks))
    one = Curve("a", np.array([5.0]), np.array([1.0]))
    assert "not measured" not in written(plots.learning_panels([TaskCurves("hopper", [one])], looks))


def test_bands_of_profiles_are_left_out_where_they_would_cover_each_other() -> None:
    thresholds = np.array([0.0, 1.0])
    profile = Profile(thresholds, np.array([1.0, 0.5]), np.array([1.0, 0.3]), np.array([1.0, 0.8]))
    for count in (plots.MOST_BANDS, plots.MOST_BANDS + 1):
        names = CONDITIONS[:count]
        figure = plots.aggregate_profiles([Aggregate("gap", {})], dict.fromkeys(names, profile), plots.looks(names))
        assert len(figure.get_axes()[-1].collections) == (count if count <= plots.MOST_BANDS else 0)


def test_a_panel_without_a_run_has_no_ticks_but_of_the_steps_to_come() -> None:
    looks = plots.looks(["a"])
    for figure in (
        plots.learning_panels([TaskCurves("hopper", [])], looks),
        plots.answers_panels([TaskAnswers("hopper", [], [])]),
    ):
        assert not [*figure.axes[0].get_xticks(), *figure.axes[0].get_yticks()]
    assert not len(plots.final_panels([TaskFinals("hopper", {}, {})], looks).axes[0].get_xticks())
    (axes,) = plots.learning_panels([TaskCurves("hopper", [], steps=2e6)], looks).axes
    assert axes.get_xlim() == (0, 2e6)
    assert not len(axes.get_yticks())


def test_returns_below_one_are_not_written_in_thousandths() -> None:
    drawn = written(plots.learning_panels([TaskCurves("hopper", [rising("a", -0.9)])], plots.looks(["a"])))
    assert "−0.5" in drawn
    assert "500k" in drawn
    assert "m<" not in drawn


@pytest.mark.parametrize("count", [1, 4, 5, 8, 10])
def test_every_task_has_a_panel_and_no_panel_is_left_empty(count: int) -> None:
    tasks = [TaskCurves(str(i), [rising("a", 1.0)]) for i in range(count)]
    figure = plots.learning_panels(tasks, plots.looks(["a"]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [str(i) for i in range(count)]
    assert figure.get_figwidth() < 11
