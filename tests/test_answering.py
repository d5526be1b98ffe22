"""`prefrl answer`: oracles answer what a database holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tiny_runs import LABELS, tiny

from prefrl.answering import AnswerOptions, answer
from prefrl.cli import main
from prefrl.config import OracleOptions
from prefrl.errors import UserError
from prefrl.preferences import PreferenceStore
from prefrl.run import train

pytestmark = pytest.mark.usefixtures("empty_figures")


@pytest.fixture
def database(tmp_path: Path) -> str:
    run = train(tiny(tmp_path / "run", steps=4 * 256, oracle=OracleOptions()))
    return str(run / "preferences.db")


def test_an_oracle_answers_beside_whoever_was_asked_before(database: str) -> None:
    with PreferenceStore(database) as store:
        before = store.answers()
    given = answer(AnswerOptions(database, labeller="again"))
    assert given.total() == LABELS
    drunk = answer(AnswerOptions(database, "drunk", oracle=OracleOptions(rationality=0.5, equal_within=0.5)))
    assert drunk["equal"] > given["equal"]
    with PreferenceStore(database) as store:
        answers = store.answers()
    assert answers[:LABELS] == before
    assert Counter(each.labeller for each in answers) == {"reward": LABELS, "again": LABELS, "drunk": LABELS}
    asked, again = answers[:LABELS], answers[LABELS : 2 * LABELS]
    assert [(a.query_id, a.ranking) for a in asked] == [(a.query_id, a.ranking) for a in again], "both are perfect"


def test_the_command_says_what_was_answered(
    database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["prefrl", "answer", database, "--labeller", "skips", "--oracle.skip-below", "9"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{database}: {LABELS} skip\n"


def test_what_cannot_be_answered_is_refused_and_nothing_is_added(database: str, tmp_path: Path) -> None:
    with PreferenceStore(tmp_path / "empty.db"):
        pass
    for options, message in (
        (AnswerOptions(str(tmp_path / "none.db")), "none.db does not exist"),
        (AnswerOptions(str(tmp_path / "empty.db")), "holds no query to answer"),
        (AnswerOptions(database), f"holds {LABELS} answers of 'reward' already; give the oracle another --labeller"),
        (AnswerOptions(database, oracle=OracleOptions(score="judge")), "reacher has no judge"),
    ):
        with pytest.raises(UserError, match=message):
            answer(options)
    with PreferenceStore(database) as store:
        assert len(store.answers()) == LABELS
    assert not (tmp_path / "none.db").exists()
