"""A small data set, damage to it as accident or malice would do it, and what importing it may come to."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from prefrl.dataset import Dataset, export_dataset, import_dataset, read_dataset
from prefrl.dataset.contents import to_rows
from prefrl.errors import UserError
from prefrl.preferences import Answer, Moment, PreferenceStore, Ranking, Rows
from prefrl.queries import Query
from prefrl.reward_model import RewardEnsemble
from prefrl.segments import Segment

Files = dict[str, bytes]  # of a folder, by name

CARDS = ("README.md", "MODEL_CARD.md")
SUMS = "SHA256SUMS"
METRICS = """env_steps,true_return,reward/correlation,reward/segment_correlation,labels/answered,fit/accuracy
8192,,0.1,0.2,3,0.5
16384,1.5,0.625,,5,0.75
"""


def make_segment(seed: int, length: int = 4, exact_states: bool = True) -> Segment:
    rng = np.random.default_rng(seed)
    return Segment(
        observations=rng.normal(size=(length, 11)).astype(np.float32),
        actions=rng.normal(size=(length, 3)).astype(np.float32),
        true_rewards=rng.normal(size=length).astype(np.float32),
        qpos=rng.normal(size=(length, 6)) if exact_states else None,
        qvel=rng.normal(size=(length, 6)) if exact_states else None,
        env_steps=100 * seed,
    )


def make_answer(query_id: int | None, ranking: Ranking | None = ((0,), (1,)), /, **changes: Any) -> Answer:
    assert query_id is not None
    return replace(Answer(query_id, ranking, "ann", 1.5, 4.25), **changes)


def rows_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    with PreferenceStore(path) as store:
        return store.rows()


def contents(folder: Path) -> Files:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def write(folder: Path, files: Files) -> Path:
    """A new folder with these files."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def make_run(run: Path) -> None:
    """Two queries of two and one of three; an undone answer, an equal one, can't tell, a ranking of three; two runs."""
    run.mkdir()
    with PreferenceStore(run / "preferences.db", task="hopper-backflip") as store:
        shared = make_segment(0)
        pair, again, three = store.add_queries(
            [
                Query((shared, make_segment(1))),
                Query((make_segment(2, exact_states=False), shared)),
                Query((make_segment(3, length=2), make_segment(4), shared)),
            ]
        )
        (first,) = store.add_answers([make_answer(pair.id)])
        store.add_answers(
            [
                make_answer(pair.id, ((1,), (0,)), supersedes=first.id, replays=2),
                make_answer(again.id, ((0, 1),), labeller="Bob | <b>`"),
                make_answer(again.id, None),
                make_answer(three.id, ((2,), (0, 1))),
            ]
        )
        store.record_asked([1, 2], Moment("f00d", 8192))
        store.record_asked([1], Moment("beef", 0))
        store.record_taken([1, 2], Moment("f00d", 16384))
    RewardEnsemble(11, 3, hidden=(4, 4)).save(run / "predictor.safetensors")
    (run / "metrics.csv").write_text(METRICS)
    options = {"oracle": {"error_rate": 0.1}}
    config = {"feedback": "synthetic", "versions": {"mujoco": "3.2.1"}, "options": options}
    (run / "config.json").write_text(json.dumps(config))


@dataclass(frozen=True)
class Example:
    """A run, what it is exported to, and what its store holds."""

    run: Files
    out: Files
    rows: Rows


@functools.cache
def example() -> Example:
    """Made once."""
    with tempfile.TemporaryDirectory() as name:
        run, out = Path(name) / "run", Path(name) / "out"
        make_run(run)
        export_dataset(run, out)
        return Example(contents(run), contents(out), rows_of(run / "preferences.db"))


# Damage

SLOW = 10.0  # seconds; an import of this size takes a hundredth of one

TOKENS = [
    *(b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"4294967296", b"9" * 30, b"9" * 5000, b"null", b"true", b'""'),
    *(b"[" * 50_000, b'{"":' * 20_000, b"\n", b"\r\n", b"\0", b"\xff\xfe", rb'"\ud800"', b"../../etc/passwd"),
    *(b"|O", b"<f2", b">f4", b"<c8", b"<f4', (2,))", b"999999999, 999999999", b"-4", b"True", b"__import__('os')"),
    *(b"0>1", b"0=1=2", b"cant_tell", b"2>0=1", b"PK\x01\x02", b"PK\x05\x06", b"\x93NUMPY\x02\x00"),
]
VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    *(st.integers(0, 5), st.lists(st.integers(0, 5), max_size=4), st.sampled_from(["0>1", "1>0", "0=1", "skip"])),
    st.sampled_from(["2>0=1", "0>0", "1e5", {}, [[]], 2**63, 2**31, -(2**63) - 1]),
)


def reseal(files: Files) -> Files:
    """With checksums that fit, as somebody would who wants the rest to be read."""
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name not in (*CARDS, SUMS)}
    return {**files, SUMS: "".join(f"{checksum}  {name}\n" for name, checksum in sums.items()).encode()}


def zipped(members: Files, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An .npz of these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def unzipped(data: bytes) -> Files:
    """The members of an .npz."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@st.composite
def changed_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Up to three places overwritten, inserted or cut out."""
    for _ in range(draw(st.integers(1, 3))):
        ends = [0, min(128, len(data)), max(0, len(data) - 128), len(data)]  # headers and directories matter most
        start = draw(st.one_of(st.integers(0, len(data)), st.integers(*ends[:2]), st.integers(*ends[2:])))
        new = draw(st.one_of(st.binary(max_size=8), st.sampled_from(TOKENS), st.just(data[start : start + 64])))
        length = draw(st.one_of(st.just(len(new)), st.just(0), st.integers(0, 8), st.just(len(data))))
        data = data[:start] + new + data[start + length :]
    return data


@st.composite
def changed_member(draw: st.DrawFn, data: bytes) -> bytes:
    """One file within a zip changed, renamed or compressed."""
    members = unzipped(data)
    name = draw(st.sampled_from(sorted(members)))
    content = draw(changed_bytes(members.pop(name)))
    renamed = draw(st.sampled_from([name] * 40 + ["../qpos.npy", "/etc/passwd", "qpos.npy", "photo.npy", " "]))
    compression = draw(st.sampled_from([zipfile.ZIP_STORED] * 20 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
    return zipped({**members, renamed: content}, compression)


@st.composite
def _changed_field(draw: st.DrawFn, data: bytes) -> bytes:
    """Another value, field or order in well-formed JSON."""
    lines = [json.loads(line) for line in data.splitlines()]
    line = draw(st.sampled_from(lines))
    match draw(st.sampled_from(["value"] * 5 + ["drop", "add", "swap", "repeat"])):
        case "value":
            line[draw(st.sampled_from(sorted(line)))] = draw(VALUES)
        case "drop":
            del line[draw(st.sampled_from(sorted(line)))]
        case "add":
            line["note"] = draw(VALUES)
        case "swap":
            lines.reverse()
        case "repeat":
            lines.append(line)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@dataclass(frozen=True)
class Damage:
    """What happened to one file of the example."""

    file: str
    content: bytes | None  # None: it is gone
    resealed: bool  # the checksums were made to fit

    def folder(self) -> Files:
        """The whole folder after it."""
        files = {name: data for name, data in example().out.items() if name != self.file}
        if self.content is not None:
            files[self.file] = self.content
        return reseal(files) if self.resealed else files


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """To any file but the cards, which are not read."""
    files = example().out
    weights = {file: 3 if file.endswith(".jsonl") else 1 for file in sorted(files) if file not in CARDS}
    file = draw(st.sampled_from([file for file, weight in weights.items() for _ in range(weight)]))
    way = draw(st.sampled_from(["bytes", "gone", "inside", "inside", "inside", "inside"]))
    content: bytes | None
    if way == "inside" and file.endswith(".npz"):
        content = draw(changed_member(files[file]))
    elif way == "inside" and file.endswith(".jsonl"):
        content = draw(_changed_field(files[file]))
    else:
        content = None if way == "gone" else draw(changed_bytes(files[file]))
    return Damage(file, content, resealed=file != SUMS and draw(st.sampled_from([True, True, False])))


@dataclass(frozen=True)
class Outcome:
    """What came of importing a folder."""

    name: str  # refused, identical, or different (only where checksums were made to fit)
    seconds: float


def import_damaged(damage: Damage) -> Outcome:
    """Import it; it must be refused in one line, or come to the same data, or to other data that a store takes.

    Raises:
        AssertionError: anything else happened.
    """
    with tempfile.TemporaryDirectory() as name:
        files = damage.folder()
        folder, store = write(Path(name) / "folder", files), Path(name) / "preferences.db"
        began = time.perf_counter()
        outcome = _outcome(folder, store)
        seconds = time.perf_counter() - began
        assert seconds < SLOW
        assert damage.resealed or outcome != "different"
        assert sorted(os.listdir(name)) == ["folder"] + (["preferences.db"] if outcome == "different" else [])
        assert sorted(os.listdir(folder)) == sorted(files)
        refusal_of(lambda: RewardEnsemble.load(folder / "predictor.safetensors"))
        return Outcome(outcome, seconds)


def _outcome(folder: Path, path: Path) -> str:
    read: list[Dataset] = []
    refusal = refusal_of(lambda: read.append(read_dataset(folder)))
    if refusal:
        assert str(folder) in refusal
        return "refused"
    if to_rows(read[0]) == example().rows:
        return "identical"
    import_dataset(folder, path)  # what can be read can be stored
    with PreferenceStore(path) as store:
        assert store.rows() == to_rows(read[0])
        store.queries()
        store.answers(include_superseded=True)
    return "different"


def refusal_of(load: Callable[[], object]) -> str:
    """What it was refused with; empty where it was not."""
    try:
        load()
    except UserError as error:
        refusal = str(error)
    else:
        return ""
    assert "\n" not in refusal
    assert len(refusal) < 1000
    return refusal
