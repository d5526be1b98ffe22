"""The notebooks run, and what is committed is what they show."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from run_notebooks import FOLDER, run, settings_of, tidy
from test_clips import needs_gl

from prefrl.paper import TRUE_REWARD
from prefrl.report.sweep_scores import SweepScores
from prefrl.sweep import read_results

# What the first cell sets, smaller: as little as still runs every line.
QUICK: dict[str, dict[str, Any]] = {
    "1_segment_to_clip": {"ENVIRONMENTS": 4, "STEPS": 200, "FRAMES": 2},
    "2_reward_model": {"ROBOTS": 8, "QUERIES": 200, "TRAINED_ON": 100, "GRADIENT_STEPS": 30},
    "3_loop_by_hand": {"STEPS": 20_000, "LABELS": 40, "FIRST_FIT": 10},
    "4_reading_a_sweep": {"FOLDER": "../experiments/results/figure2", "TASK": "pendulum"},
    "5_people_against_oracles": {"STEPS": 12_000, "LABELS": 80, "FIRST_FIT": 10},
}
FIGURE_2 = FOLDER.parent / "experiments/results/figure2"
LACKS = len(read_results(FIGURE_2).missing) if FIGURE_2.exists() else "all"
needs_figure2 = pytest.mark.skipif(
    LACKS != 0, reason=f"experiments/results/figure2 lacks {LACKS} trials; prefrl sweep figure2 --missing runs them"
)
NEEDS = {"1_segment_to_clip": needs_gl, "3_loop_by_hand": needs_gl, "4_reading_a_sweep": needs_figure2}
MOST_BYTES = 500_000
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<])/[\w.][\w.-]*/[\w.]|[A-Z]:\\\w|file://")

PATHS = sorted(FOLDER.glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def assert_ran_well(notebook: NotebookNode) -> None:
    """Every cell, with pictures and without an error."""
    outputs = outputs_of(notebook)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert [output for output in outputs if output.output_type == "error"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem, marks=NEEDS.get(path.stem, ())) for path in PATHS])
def test_runs_with_small_settings(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    quick = QUICK[path.stem]
    settings = settings_of(notebook)
    assert set(quick) == {node.id for node in ast.walk(ast.parse(settings.source)) if isinstance(node, ast.Name)}
    settings.source = "\n".join(f"{name} = {value!r}" for name, value in quick.items())
    assert_ran_well(run(notebook))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=needs_figure2 if path.stem == "4_reading_a_sweep" else ())
        for path in PATHS
    ],
)
def test_is_committed_as_it_ran(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert_ran_well(notebook)
    assert [output.text for output in outputs_of(notebook) if output.get("name") == "stderr"] == []


@needs_figure2
def test_what_is_read_of_a_sweep_is_what_the_sweep_has_now() -> None:
    """Results that were run anew would otherwise stand beside a notebook that tells of those before."""
    notebook = nbformat.read(FOLDER / "4_reading_a_sweep.ipynb", as_version=4)
    printed = " ".join(str(output.get("text", "")) for output in outputs_of(notebook))
    scores = SweepScores(read_results(FIGURE_2))
    for name in scores.conditions:
        mean = scores.iqm(name)
        known = ": the scale itself" if name == TRUE_REWARD else f" ({mean.low:.2f} to {mean.high:.2f})"
        assert re.search(rf"{name} +{mean.value:.2f}{re.escape(known)}", printed), (
            "run it with scripts/run_notebooks.py"
        )


@EACH
def test_is_small_and_tells_nothing_of_the_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook == tidy(nbformat.read(path, as_version=4)), "run it with scripts/run_notebooks.py"
    assert path.stat().st_size < MOST_BYTES
    texts = [cell.source for cell in notebook.cells]
    texts += [str(output.get("text", "")) for output in outputs_of(notebook)]
    texts += [
        str(text)
        for output in outputs_of(notebook)
        for kind, text in output.get("data", {}).items()
        if kind.startswith("text/") and "base64" not in text
    ]
    assert [found[0] for text in texts if (found := ABSOLUTE_PATH.search(text))] == []


@EACH
def test_opens_by_saying_where_in_the_paper_it_is(path: Path) -> None:
    opening = nbformat.read(path, as_version=4).cells[0]
    assert opening.cell_type == "markdown"
    assert re.match("# ", opening.source)
    assert re.search("[Ss]ections? [0-9]", opening.source.replace("\n", " "))


@EACH
def test_links_lead_somewhere(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", cell.source if cell.cell_type == "markdown" else ""):
            assert (FOLDER / target).exists(), target


def test_the_readme_lists_all_of_them() -> None:
    linked = re.findall(r"\(notebooks/(\w+)\.ipynb\)", (FOLDER.parent / "README.md").read_text())
    assert linked == [path.stem for path in PATHS]
