from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import sqlite3
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from damage import (
    CARDS,
    Damage,
    Files,
    contents,
    damages,
    example,
    import_damaged,
    make_answer,
    make_segment,
    reseal,
    rows_of,
    unzipped,
    write,
    zipped,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prefrl.cli import main
from prefrl.dataset import exchange, export_dataset, import_dataset, read_dataset
from prefrl.dataset.cards import model_card
from prefrl.errors import UserError
from prefrl.preferences import Answer, Moment, PreferenceStore, Ranking
from prefrl.preferences.schema import TABLES
from prefrl.queries import Query
from prefrl.reward_model import RewardEnsemble
from prefrl.reward_wrapper import PredictedReward
from prefrl.segments import Segment


def tamper(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write(tmp_path / "run", example().run)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write(tmp_path / "out", example().out)


# What goes out comes in


@st.composite
def stores(draw: st.DrawFn) -> list[tuple[Query, list[Answer]]]:
    """Queries that share segments, with chains of answers; an answer's `supersedes` counts back in its list."""
    floats = st.sampled_from([np.float16, np.float32, np.float64])
    length, dtype = st.integers(1, 4), st.one_of(floats, st.sampled_from([np.int8, np.uint32, np.bool_]))
    widths = st.integers(0, 3)

    def array(kind: Any, *shape: int) -> Any:
        elements = {"allow_nan": False, "allow_infinity": False} if np.issubdtype(kind, np.floating) else None
        return draw(hnp.arrays(kind, shape, elements=elements))

    def segment() -> Segment:
        t, exact_states, width = draw(length), draw(st.booleans()), draw(widths)
        return Segment(
            observations=array(draw(dtype), t, width),
            actions=array(draw(dtype), t, draw(widths)),
            true_rewards=array(np.float32, t),
            qpos=array(np.float64, t, draw(widths)) if exact_states else None,
            qvel=array(np.float64, t, draw(widths)) if exact_states else None,
            env_steps=draw(st.integers(0, 2**40)),
            next_observations=array(draw(dtype), t, width) if draw(st.booleans()) else None,
        )

    made = [segment() for _ in range(draw(st.integers(2, 4)))]
    cases = []
    for _ in range(draw(st.integers(0, 3))):
        shown = draw(st.lists(st.sampled_from(made), min_size=2, max_size=4))
        places = st.lists(st.integers(0, len(shown) - 1), min_size=len(shown), max_size=len(shown))
        answer = st.builds(
            Answer,
            query_id=st.just(0),
            ranking=st.one_of(st.none(), places.map(ranked)),
            labeller=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            shown_at=st.floats(allow_nan=False, allow_infinity=False),
            answered_at=st.floats(0, 1e10),
            replays=st.integers(0, 2**31 - 1),
            supersedes=st.sampled_from([None, 1]),
        )
        cases.append((Query(tuple(shown)), draw(st.lists(answer, max_size=3))))
    return cases


def ranked(places: list[int]) -> Ranking:
    return tuple(tuple(i for i, p in enumerate(places) if p == place) for place in sorted(set(places)))


def fill(path: Path, cases: list[tuple[Query, list[Answer]]], task: str | None) -> None:
    with PreferenceStore(path, task=task) as store:
        for query, (_, answers) in zip(store.add_queries([query for query, _ in cases]), cases, strict=True):
            before: int | None = None
            for answer in answers:
                supersedes = before if answer.supersedes else None
                (stored,) = store.add_answers([replace(answer, query_id=query.id or 0, supersedes=supersedes)])
                before = stored.id
        for run, number in (("a", 2), ("0123456789abcdef", 3)):
            store.record_asked([query.id or 0 for query in store.queries()][::number], Moment(run, 2**40))
            taken = [answer.id or 0 for answer in store.answers(include_superseded=True)]
            store.record_taken(taken[::number], Moment(run, number))


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(stores(), st.sampled_from([None, "hopper", "my_package:Möbius-v0"]))
def test_any_store_comes_back_identically(cases: list[tuple[Query, list[Answer]]], task: str | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        run, out, path = Path(name), Path(name) / "out", Path(name) / "imported.db"
        fill(run / "preferences.db", cases, task)
        export_dataset(run, out)
        import_dataset(out, path)
        assert rows_of(path) == rows_of(run / "preferences.db")
        with PreferenceStore(path) as imported, PreferenceStore(run / "preferences.db") as original:
            assert imported.task == task
            assert imported.answers(include_superseded=True) == original.answers(include_superseded=True)
            for ours, theirs in zip(imported.queries(), original.queries(), strict=True):
                for one, other in zip(ours.segments, theirs.segments, strict=True):
                    for array in ("observations", "actions", "true_rewards", "qpos", "qvel"):
                        a, b = getattr(one, array), getattr(other, array)
                        assert (a is None) == (b is None)
                        assert a is None or (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def test_ids_with_gaps_and_segments_of_several_versions_and_tasks_come_back(run: Path, tmp_path: Path) -> None:
    database = run / "preferences.db"
    tamper(
        database,
        "UPDATE segments SET id = id + 100 WHERE id = 5",
        "UPDATE query_segments SET segment_id = segment_id + 100 WHERE segment_id = 5",
        "DELETE FROM taken",
        "UPDATE segments SET mujoco_version = '3.1.0', task = 'hopper' WHERE id = 1",
        "UPDATE answers SET id = id + 70 WHERE id > 2",
    )
    before = rows_of(database)
    assert [row["id"] for row in before["answers"]] == [1, 2, 73, 74, 75]
    export_dataset(run, tmp_path / "out")
    import_dataset(tmp_path / "out", tmp_path / "imported.db")
    assert rows_of(tmp_path / "imported.db") == before


def test_a_folder_from_before_runs_were_noted_is_read(out: Path, tmp_path: Path) -> None:
    for name, column in (("queries.jsonl", "asked"), ("answers.jsonl", "taken")):
        lines = [json.loads(line) for line in (out / name).read_text().splitlines()]
        for line in lines:
            del line[column]
        (out / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (out / "dataset.json").write_text((out / "dataset.json").read_text().replace('"version": 3', '"version": 1'))
    (out / "SHA256SUMS").write_bytes(reseal(contents(out))["SHA256SUMS"])
    import_dataset(out, tmp_path / "imported.db")
    rows = rows_of(tmp_path / "imported.db")
    assert rows == {**example().rows, "asked": [], "taken": []}


def test_an_imported_store_goes_on(out: Path, tmp_path: Path) -> None:
    import_dataset(out, tmp_path / "imported.db")
    with PreferenceStore(tmp_path / "imported.db", task="hopper-backflip") as store:
        (query,) = store.add_queries([Query((make_segment(8), make_segment(9)))])
        (answer,) = store.add_answers([make_answer(query.id)])
        assert (query.id, answer.id) == (4, 6)


def test_every_column_of_a_store_is_published_and_explained(run: Path, out: Path, tmp_path: Path) -> None:
    import_dataset(out, tmp_path / "imported.db")
    card = (out / "README.md").read_text()
    for table, rows in rows_of(tmp_path / "imported.db").items():
        assert set(rows[0]) == {column.name for column in TABLES.tables[table].columns}
    for name in ("segments", "queries", "answers"):
        for column in json.loads((out / f"{name}.jsonl").read_text().splitlines()[0]):
            assert f"| {column} |" in card or f"{column}, " in card or f", {column} |" in card
    for column in np.load(out / "arrays-1.npz", allow_pickle=False):
        assert f"| {column} |" in card


def test_plain_numpy_and_json_read_the_same(run: Path, out: Path) -> None:
    segments = {s["id"]: s for s in map(json.loads, (out / "segments.jsonl").read_text().splitlines())}
    queries = [json.loads(line) for line in (out / "queries.jsonl").read_text().splitlines()]
    with PreferenceStore(run / "preferences.db") as store:
        for stored, query in zip(store.queries(), queries, strict=True):
            assert query["id"] == stored.id
            for segment, segment_id in zip(stored.segments, query["segments"], strict=True):
                place = segments[segment_id]
                arrays = np.load(out / f"arrays-{place['file']}.npz", allow_pickle=False)
                assert place["true_return"] == pytest.approx(float(arrays["true_rewards"][place["row"]].sum()))
                for name in arrays:
                    np.testing.assert_array_equal(arrays[name][place["row"]], getattr(segment, name))
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [a["ranking"] for a in answers] == ["0>1", "1>0", "0=1", "cant_tell", "2>0=1"]
    assert [a["supersedes"] for a in answers] == [None, 1, None, None, None]


def test_segments_of_one_shape_share_a_file(out: Path) -> None:
    shapes = {name: np.load(out / name)["observations"].shape for name in os.listdir(out) if name.endswith(".npz")}
    assert sorted(shapes.values()) == [(1, 2, 11), (1, 4, 11), (3, 4, 11)]


def test_checksums_are_those_of_sha256sum(out: Path) -> None:
    lines = [line.split("  ") for line in (out / "SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in lines} == set(os.listdir(out)) - {*CARDS, "SHA256SUMS"}
    for checksum, name in lines:
        assert checksum == hashlib.sha256((out / name).read_bytes()).hexdigest()


def test_a_run_is_left_as_it_was(run: Path, tmp_path: Path) -> None:
    before = contents(run)
    export_dataset(run, tmp_path / "out")
    assert contents(run) == before


# Cards


def test_the_data_card_counts_and_names(out: Path) -> None:
    card = (out / "README.md").read_text()
    assert "5 short segments" in card
    assert '| answers | 5, of which 1 superseded, 1 "can\'t tell", 0 skipped and 1 all equal |' in card
    assert "| labellers, with their answers | `ann` 4, `Bob <b> ` 1 |" in card
    assert "| settings of the synthetic oracle | `error_rate` 0.1 |" in card
    assert "(gymnasium id `prefrl/HopperBackflip-v0`)" in card
    assert "Licence:** none stated yet" in card


def test_the_model_card_shows_the_last_row_of_the_metrics(out: Path) -> None:
    card = (out / "MODEL_CARD.md").read_text()
    assert "| answers | 5 |" in card
    assert "| held-out accuracy | 0.75 |" in card
    assert "| correlation with the true reward, per step | 0.62 |" in card
    assert "| correlation with the true return, per segment | not measured |" in card
    assert "(..., 11) float32" in card
    assert "(..., 3) float32" in card


def test_the_model_card_tells_of_an_aversion_to_risk() -> None:
    neutral, averse = (model_card(RewardEnsemble(4, 2, risk_aversion=a), "hopper", {}) for a in (0.0, 0.5))
    assert "then averaged, and of that reward r, which answers were about, (1 - exp(-a r)) / a is given out" in averse
    assert "risk aversion a of 0.5.\n" in averse
    assert "| none: of r, below, mean 0 and deviation 1 over" in averse
    assert "| none: mean 0 and deviation 1 over" in neutral
    assert "then averaged.\n" in neutral
    assert "exp(" not in neutral


def test_the_published_predictor_loads_as_its_card_says(run: Path, out: Path) -> None:
    code = (out / "MODEL_CARD.md").read_text().split("```python\n")[1].split("```")[0]
    assert 'PredictedReward(gymnasium.make("prefrl/HopperBackflip-v0"), "predictor.safetensors")' in code
    env = PredictedReward(gymnasium.make("prefrl/HopperBackflip-v0"), out / "predictor.safetensors")
    observation, _ = env.reset(seed=0)
    action = np.full(3, 0.5, np.float32)
    expected = RewardEnsemble.load(run / "predictor.safetensors").predict(
        observation.astype(np.float32)[None], action[None]
    )
    assert env.step(action)[1] == pytest.approx(float(expected[0]))
    env.close()


def test_a_run_without_predictor_configuration_and_answers_has_a_data_card_only(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    PreferenceStore(tmp_path / "run" / "preferences.db").close()
    export_dataset(tmp_path / "run", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [
        *("README.md", "SHA256SUMS", "answers.jsonl", "dataset.json", "queries.jsonl", "segments.jsonl")
    ]
    import_dataset(tmp_path / "out", tmp_path / "imported.db")
    assert not any(rows_of(tmp_path / "imported.db").values())


def test_a_publisher_may_edit_the_cards_and_add_files(run: Path, out: Path, tmp_path: Path) -> None:
    (out / "README.md").write_text("MIT")
    (out / "MODEL_CARD.md").unlink()
    (out / "LICENSE").write_text("MIT")
    import_dataset(out, tmp_path / "imported.db")
    assert rows_of(tmp_path / "imported.db") == rows_of(run / "preferences.db")


# What is refused


@pytest.mark.parametrize("there", ["folder", "file", "dangling link"])
def test_what_exists_is_refused_and_left(run: Path, out: Path, tmp_path: Path, there: str) -> None:
    taken = tmp_path / "taken"
    if there == "folder":
        taken.mkdir()
    elif there == "file":
        taken.write_text("precious")
    else:
        taken.symlink_to(tmp_path / "nowhere")
    before = (taken.lstat(), sorted(os.listdir(tmp_path)))
    for exchanged, source in ((export_dataset, run), (import_dataset, out)):
        with pytest.raises(UserError, match="taken exists already; give another path"):
            exchanged(source, taken)
    assert (taken.lstat(), sorted(os.listdir(tmp_path))) == before


def test_what_appears_meanwhile_is_left(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "imported.db"
    monkeypatch.setattr(PreferenceStore, "add_rows", lambda *arguments: store.write_text("precious"))
    with pytest.raises(UserError, match="exists already"):
        import_dataset(out, store)
    assert store.read_text() == "precious"


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_nothing(
    run: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(path: Path) -> None:
        raise failure

    monkeypatch.setattr(exchange, "sync", fail)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises((UserError, KeyboardInterrupt), match=r"No space left on device|^$"):
        export_dataset(run, tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == before


def test_a_missing_folder_to_write_in_is_refused(run: Path, out: Path, tmp_path: Path) -> None:
    for exchanged, source in ((export_dataset, run), (import_dataset, out)):
        with pytest.raises(UserError, match=r"cannot write .*: No such file or directory; give a path"):
            exchanged(source, tmp_path / "missing" / "new")


def test_a_folder_without_preferences_is_refused_and_gets_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no preferences\.db"):
        export_dataset(tmp_path, tmp_path / "out")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("UPDATE segments SET actions = x'00' WHERE id = 2", "segment 2: actions hold 1 bytes"),
        ("UPDATE segments SET length = 9 WHERE id = 2", "lengths or on-screen positions"),
        ("UPDATE segments SET env_steps = 'many' WHERE id = 2", "segment 2: env_steps 'many'"),
        ("UPDATE query_segments SET position = 7 WHERE query_id = 1 AND position = 1", "on-screen positions"),
        ("DELETE FROM query_segments WHERE query_id = 2 AND position = 1", "query 2: segments"),
        ("UPDATE answers SET ranking = '0>1>2' WHERE id = 1", "answer 1 ranks 0>1>2, its query has 2 segments"),
        ("UPDATE answers SET shown_at = x'00' WHERE id = 1", "answer 1: shown_at"),
    ],
)
def test_a_damaged_store_is_not_published(run: Path, tmp_path: Path, statement: str, complaint: str) -> None:
    tamper(run / "preferences.db", statement)
    with pytest.raises(UserError, match=complaint) as refusal:
        export_dataset(run, tmp_path / "out")
    assert str(run / "preferences.db") in str(refusal.value)
    assert not (tmp_path / "out").exists()


def assert_refused(folder: Path, complaint: str) -> None:
    with pytest.raises(UserError) as refusal:
        import_dataset(folder, folder.parent / "imported.db")
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (folder.parent / "imported.db").exists()


@pytest.mark.parametrize(
    "name", ["SHA256SUMS", "dataset.json", "segments.jsonl", "answers.jsonl", "arrays-3.npz", "predictor.safetensors"]
)
def test_a_missing_or_truncated_file_is_named(out: Path, name: str) -> None:
    whole = (out / name).read_bytes()
    (out / name).write_bytes(whole[: len(whole) // 2])
    assert_refused(out, "does not match its checksum in SHA256SUMS; the data is damaged")
    (out / name).unlink()
    assert_refused(out, f"cannot read {out / name}: No such file or directory; give a folder that prefrl export wrote")


def change(out: Path, file: str, edit: Callable[[bytes], bytes]) -> None:
    """Change a file and make the checksums fit."""
    files = contents(out)
    files[file] = edit(files[file])
    for name, data in reseal(files).items():
        (out / name).write_bytes(data)


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("dataset.json", '"version": 3', '"version": 4', "has version 4, this prefrl reads 1 to 3; upgrade prefrl"),
        ("dataset.json", '"answers": 5', '"answers": 6', "holds 5 answers where dataset.json says 6"),
        ("dataset.json", '"array_files": 3', '"array_files": 999999999', "cannot read"),
        ("dataset.json", '"array_files": 3', '"array_files": 2', "5 segments do not have arrays of their own each"),
        ("segments.jsonl", '"id": 2', '"id": 1', "segment 1 stands after segment 1"),
        ("segments.jsonl", '"id": 2', '"id": 4294967296', "segments.jsonl line 2: id 4294967296"),
        ("segments.jsonl", '"row": 1', '"row": 0', "arrays of their own"),
        ("segments.jsonl", '"file": 1', '"file": "../1"', "line 1: file '../1'"),
        ("segments.jsonl", '"true_return": ', '"true_return": NaN, "x": ', "true_return nan"),
        ("queries.jsonl", "[1, 2]", "[1, 99]", "query 1 shows segment 99, which is not there"),
        ("queries.jsonl", "[1, 2]", "[1]", "queries.jsonl line 1: segments [1]"),
        ("queries.jsonl", "[1, 2]", "[" * 100_000, "queries.jsonl line 1"),
        ("answers.jsonl", '"query_id": 1', '"query_id": 9', "answer 1 is to query 9, which is not there"),
        ("queries.jsonl", '"f00d": 8192', '"f00d": 8192.5', "queries.jsonl line 1: asked f00d 8192.5"),
        ("answers.jsonl", '"f00d": 16384', '"../f00d": 1', "answers.jsonl line 1: taken ../f00d"),
        ("answers.jsonl", '"ranking": "0>1"', '"ranking": "__import__"', "answer 1: ranking '__import__' is none"),
        ("answers.jsonl", '"ranking": "0>1"', '"ranking": "0>1>2"', "answer 1 ranks 0>1>2, its query has 2 segments"),
        ("answers.jsonl", '"supersedes": 1', '"supersedes": 3', "answer 2 supersedes 3, no standing answer"),
        ("answers.jsonl", '"replays": 2', '"replays": -2', "answers.jsonl line 2: replays -2"),
        ("answers.jsonl", '"replays": 2', '"replays": 99999999999999999999', "replays 99999999999999999999"),
        ("answers.jsonl", '"shown_at": 1.5', '"shown_at": 1e999', "shown_at inf"),
    ],
)
def test_lines_that_no_export_writes_are_refused(out: Path, file: str, old: str, new: str, complaint: str) -> None:
    assert old.encode() in (out / file).read_bytes()
    change(out, file, lambda data: data.replace(old.encode(), new.encode(), 1))
    assert_refused(out, complaint)


def as_npy(array: Any, *, allow_pickle: bool = False, version: tuple[int, int] = (1, 0)) -> bytes:
    with tempfile.TemporaryFile() as file:
        np.lib.format.write_array(file, np.asarray(array), version, allow_pickle=allow_pickle)
        file.seek(0)
        return file.read()


def with_shape(data: bytes, shape: str) -> bytes:
    """The same under a header that declares another shape."""
    start = 10 + int.from_bytes(data[8:10], "little")
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}".ljust(start - 11) + "\n"
    return data[:10] + header.encode() + data[start:]


class Payload:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda data: with_shape(data, "1, 4, 11000000"), "takes 176000000"),
        (lambda data: with_shape(data, "999999999, 999999999, 999999999"), "takes 3999999988000000011999999996"),
        (lambda data: with_shape(data, "999999999, 999999999, 0"), "hold 528 bytes"),
        (lambda data: with_shape(data, "3, 44"), "3 dimensions"),
        (lambda data: with_shape(data, "__import__('os')"), "which is no array of plain numbers"),
        (lambda data: data[:-1], "hold 527 bytes where float32 of shape (3, 4, 11) takes 528"),
        (lambda data: data[:50], "no array of plain numbers"),
        (lambda data: as_npy(np.full((3, 4, 11), np.nan, np.float32)), "observations hold NaN or infinity at step 0"),
        (lambda data: as_npy(np.zeros((3, 4, 11), np.complex64)), "no array of plain numbers"),
        (lambda data: as_npy(np.zeros((3, 4, 11), ">f4")), "no array of plain numbers"),
        (lambda data: as_npy(np.zeros((3, 4, 11), "f4,f4")), "no array of plain numbers"),
        (lambda data: as_npy(np.zeros((3, 5, 11), np.float32)), "have shape"),
        (lambda data: as_npy(np.zeros((2, 4, 11), np.float32)), "numbers of segments that differ"),
        (lambda data: as_npy(np.asfortranarray(np.zeros((3, 4, 11), np.float32))), "no array of plain numbers"),
        (lambda data: as_npy(np.full((3, 4, 11), Payload()), allow_pickle=True), "no array of plain numbers"),
        (lambda data: pickle.dumps(Payload()), "no array of plain numbers"),
    ],
)
def test_arrays_that_no_export_writes_are_refused_and_nothing_runs(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable[[bytes], bytes], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (name,) = (n for n in os.listdir(out) if n.endswith(".npz") and len(np.load(out / n)["observations"]) == 3)

    def edit_member(data: bytes) -> bytes:
        members = unzipped(data)
        return zipped({**members, "observations.npy": edit(members["observations.npy"])})

    change(out, name, edit_member)
    assert_refused(out, complaint)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("repack", "complaint"),
    [
        (lambda members: zipped(members, zipfile.ZIP_DEFLATED), "not uncompressed observations"),
        (lambda members: zipped({**members, "../../evil.npy": b"x"}), "not uncompressed observations"),
        (lambda members: zipped({"true_rewards.npy": members["true_rewards.npy"]}), "not uncompressed observations"),
        (lambda members: zipped({}), "not uncompressed observations"),
        (lambda members: zipped(members)[:-40], "not a zip file"),
        (lambda members: b"", "not a zip file"),
        (lambda members: zipped(members).replace(members["actions.npy"], members["actions.npy"][::-1]), "Bad CRC-32"),
    ],
)
def test_archives_that_no_export_writes_are_refused(
    out: Path, repack: Callable[[Files], bytes], complaint: str
) -> None:
    change(out, "arrays-1.npz", lambda data: repack(unzipped(data)))
    assert_refused(out, complaint)


def test_a_checksum_file_leads_nowhere_else(out: Path) -> None:
    sums = (out / "SHA256SUMS").read_text()
    (out / "SHA256SUMS").write_text(sums + f"{'0' * 64}  ../../../etc/passwd\n" + "\0\xff nonsense\n" * 3)
    read_dataset(out)  # names of others are not looked at
    (out / "SHA256SUMS").write_text(sums.replace("answers.jsonl", "../answers.jsonl"))
    assert_refused(out, f"{out / 'answers.jsonl'} does not match its checksum")


def test_a_pipe_in_place_of_a_file_does_not_hang(out: Path) -> None:
    (out / "answers.jsonl").unlink()
    os.mkfifo(out / "answers.jsonl")
    assert_refused(out, "is no plain file")


def test_a_file_beyond_the_limit_is_not_read(out: Path) -> None:
    os.truncate(out / "answers.jsonl", 5 << 30)  # sparse
    assert_refused(out, f"is no plain file of at most {4 << 30} bytes")


# Damage by the hundred; experiments/fuzz_loaders.py does it by the ten thousand


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(damages())
def test_damage_is_refused_in_one_line_or_changes_nothing(damage: Damage) -> None:
    import_damaged(damage)


# The command


def test_export_and_import_as_typed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def typed(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prefrl", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    assert typed("export", "run", "out") == (0, "out: 5 segments, 3 queries, 5 answers\n", "")
    assert typed("import", "out", "a.db") == (0, "a.db: 5 segments, 3 queries, 5 answers\n", "")
    code, _, error = typed("import", "out", "a.db")
    assert (code, error) == (1, "prefrl: a.db exists already; give another path, or remove it first\n")
