from pathlib import Path

import numpy as np
import pytest

from prefrl.errors import UserError
from prefrl.metrics import last_value, measured, read_metrics


def test_empty_cells_are_read_as_nan(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("env_steps,true_return,fit/l2\n8192,,1e-4\n16384,12.5,\n")
    metrics = read_metrics(tmp_path / "metrics.csv")
    np.testing.assert_array_equal(metrics["env_steps"], [8192, 16384])
    np.testing.assert_array_equal(metrics["true_return"], [np.nan, 12.5])
    np.testing.assert_array_equal(metrics["fit/l2"], [1e-4, np.nan])
    assert last_value(metrics, "fit/l2") == 1e-4
    assert np.isnan(last_value(metrics, "no/such"))
    assert measured(metrics, "no/such", "true_return")
    assert not measured(metrics, "no/such")


def test_a_row_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("env_steps,true_return\n8192,1\n16384,12")
    np.testing.assert_array_equal(read_metrics(tmp_path / "metrics.csv")["true_return"], [1])


@pytest.mark.parametrize(("content", "columns"), [("", []), ("env_steps,seconds\n", ["env_steps", "seconds"])])
def test_metrics_without_rows_are_empty(tmp_path: Path, content: str, columns: list[str]) -> None:
    (tmp_path / "metrics.csv").write_text(content)
    metrics = read_metrics(tmp_path / "metrics.csv")
    assert list(metrics) == columns
    assert all(len(values) == 0 for values in metrics.values())


def test_metrics_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't read"):
        read_metrics(tmp_path / "metrics.csv")
    (tmp_path / "metrics.csv").write_text("env_steps\nmany\n")
    with pytest.raises(UserError, match="'many' in column env_steps"):
        read_metrics(tmp_path / "metrics.csv")
