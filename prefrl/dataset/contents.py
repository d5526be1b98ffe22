"""What a data set holds, and that it is whole: between the rows of a preference store and the files of a folder."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
import pydantic
from numpy.typing import NDArray

from prefrl.errors import UserError
from prefrl.preferences import Answer, Rows, ranking_from_text
from prefrl.preferences.arrays import ARRAYS, OPTIONAL_ARRAYS, check_segment, decode, encode
from prefrl.segments import Segment

DAMAGED = "the data is damaged; get it again from where it came from"

Id = Annotated[int, pydantic.Field(ge=1, lt=2**31)]  # as wide as every database's integer column
WideInteger = Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)]
# By run, a key of hexadecimal digits: its environment steps when it asked a query, or took an answer.
Steps = dict[Annotated[str, pydantic.Field(pattern="^[0-9a-f]{1,64}$")], WideInteger]
FACTS = ("id", "task", "mujoco_version", "env_steps", "true_return")  # of a segment, beside its arrays


class Line(pydantic.BaseModel):
    """A line of a .jsonl file."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    id: Id


class SegmentLine(Line):
    """A segment without its arrays."""

    task: str | None
    mujoco_version: str | None  # of the exact states
    env_steps: WideInteger
    true_return: float
    file: Id  # its arrays are in arrays-FILE.npz
    row: Annotated[int, pydantic.Field(ge=0)]


class QueryLine(Line):
    """A query."""

    created_at: float  # unix seconds
    segments: Annotated[tuple[Id, ...], pydantic.Field(min_length=2)]  # in on-screen order
    asked: Steps = pydantic.Field(default_factory=dict)


class AnswerLine(Line):
    """An answer."""

    query_id: Id
    ranking: str  # as preferences.ranking_to_text writes it
    labeller: Annotated[str, pydantic.Field(pattern=r"^[^\x00]*$")]  # PostgreSQL's texts hold no NUL
    shown_at: float  # unix seconds
    answered_at: float  # unix seconds
    replays: Annotated[int, pydantic.Field(ge=0, lt=2**31)]
    supersedes: Id | None
    taken: Steps = pydantic.Field(default_factory=dict)

    def answer(self) -> Answer:
        """As the oracles make it.

        Raises:
            UserError: the ranking is none.
        """
        ranking = ranking_from_text(self.ranking)
        return Answer(self.query_id, ranking, self.labeller, self.shown_at, self.answered_at, self.replays)


Arrays = Mapping[str, NDArray[Any]]  # by name, (N, T, ...) each: N segments of the same shapes


@dataclass(frozen=True)
class Dataset:
    """Segments, queries and answers with their ids, superseded answers included."""

    task: str | None
    segments: Sequence[SegmentLine]
    queries: Sequence[QueryLine]
    answers: Sequence[AnswerLine]
    arrays: Sequence[Arrays]  # of arrays-1.npz, arrays-2.npz, ...

    def counts(self) -> dict[str, int]:
        """How many of each."""
        return {"segments": len(self.segments), "queries": len(self.queries), "answers": len(self.answers)}


Model = TypeVar("Model", bound=pydantic.BaseModel)


def parse(model: type[Model], content: bytes | Mapping[str, object], where: str) -> Model:
    """JSON, or a row of a database, as a model.

    Raises:
        UserError: a field is missing, unknown, of the wrong type or out of range.
    """
    try:
        return model.model_validate_json(content) if isinstance(content, bytes) else model.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        value = " ".join([*map(str, first["loc"]), ascii(first["input"])[:60]])
        raise UserError(f"{where}: {value}: {first['msg']}; {DAMAGED}") from error


def from_rows(rows: Rows, task: str | None, where: str) -> Dataset:
    """The data set that a store's rows are.

    Raises:
        UserError: the rows are not as a PreferenceStore writes them.
    """
    layouts: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in rows["segments"]:
        layout = tuple(row[f"{name}_{part}"] for name in ARRAYS for part in ("dtype", "shape"))
        layouts.setdefault(layout, []).append(row)
    places = {
        row["id"]: {"file": k, "row": i} for k, alike in enumerate(layouts.values(), 1) for i, row in enumerate(alike)
    }
    shown: dict[object, list[object]] = {}
    for link in rows["query_segments"]:
        shown.setdefault(link["query_id"], []).append(link["segment_id"])
    segments = [{fact: row[fact] for fact in FACTS} | places[row["id"]] for row in rows["segments"]]
    asked, taken = _steps(rows["asked"], "query_id"), _steps(rows["taken"], "answer_id")
    queries = [
        row | {"segments": tuple(shown.get(row["id"], ())), "asked": asked.get(row["id"], {})}
        for row in rows["queries"]
    ]
    answers = [row | {"taken": taken.get(row["id"], {})} for row in rows["answers"]]
    dataset = Dataset(
        task,
        [parse(SegmentLine, row, f"{where}: segment {row['id']}") for row in segments],
        [parse(QueryLine, row, f"{where}: query {row['id']}") for row in queries],
        [parse(AnswerLine, row, f"{where}: answer {row['id']}") for row in answers],
        [_stack(alike, where) for alike in layouts.values()],
    )
    check(dataset, where)
    if to_rows(dataset) != rows:
        raise UserError(f"{where}: lengths or on-screen positions do not fit the segments; {DAMAGED}")
    return dataset


def _steps(rows: Sequence[Mapping[str, Any]], column: str) -> dict[object, dict[str, int]]:
    steps: dict[object, dict[str, int]] = {}
    for row in rows:
        steps.setdefault(row[column], {})[row["run"]] = row["env_steps"]
    return steps


def _stack(rows: Sequence[Mapping[str, Any]], where: str) -> Arrays:
    def array(row: Mapping[str, Any], name: str) -> NDArray[Any]:
        return decode(row[name], row[f"{name}_dtype"], row[f"{name}_shape"], f"{where}: segment {row['id']}: {name}")

    names = [name for name in ARRAYS if name not in OPTIONAL_ARRAYS or rows[0][name] is not None]
    return {name: np.stack([array(row, name) for row in rows]) for name in names}


def to_rows(dataset: Dataset) -> Rows:
    """The rows of a store that holds it."""
    return {
        "segments": [_segment_row(line, dataset.arrays[line.file - 1]) for line in dataset.segments],
        "queries": [line.model_dump(exclude={"segments", "asked"}) for line in dataset.queries],
        "query_segments": [
            {"query_id": line.id, "position": position, "segment_id": segment_id}
            for line in dataset.queries
            for position, segment_id in enumerate(line.segments)
        ],
        "answers": [line.model_dump(exclude={"taken"}) for line in dataset.answers],
        "asked": _step_rows("query_id", {line.id: line.asked for line in dataset.queries}),
        "taken": _step_rows("answer_id", {line.id: line.taken for line in dataset.answers}),
    }


def _step_rows(column: str, steps: Mapping[int, Mapping[str, int]]) -> list[dict[str, Any]]:
    rows = [
        {"run": run, column: each, "env_steps": env_steps}
        for each, by_run in steps.items()
        for run, env_steps in by_run.items()
    ]
    return sorted(rows, key=lambda row: (row["run"], row[column]))


def _segment_row(line: SegmentLine, arrays: Arrays) -> dict[str, object]:
    row: dict[str, object] = {fact: getattr(line, fact) for fact in FACTS}
    row["length"] = len(arrays["observations"][line.row])
    for name in ARRAYS:
        encoded = encode(arrays[name][line.row]) if name in arrays else (None,) * 3
        row[name], row[f"{name}_dtype"], row[f"{name}_shape"] = encoded
    return row


def check(dataset: Dataset, where: str) -> None:
    """Refuse what no PreferenceStore would have taken.

    Raises:
        UserError: ids that do not rise or lead nowhere, arrays without a segment, NaN, or rankings that do not fit.
    """
    for kind, lines in (("segment", dataset.segments), ("query", dataset.queries), ("answer", dataset.answers)):
        for before, after in itertools.pairwise(lines):
            if after.id <= before.id:
                raise UserError(f"{where}: {kind} {after.id} stands after {kind} {before.id}; {DAMAGED}")
    places = sorted((line.file, line.row) for line in dataset.segments)
    lengths = [len(arrays["observations"]) for arrays in dataset.arrays]
    if sum(lengths) != len(places) or places != [(k, i) for k, n in enumerate(lengths, 1) for i in range(n)]:
        raise UserError(f"{where}: {len(places)} segments do not have arrays of their own each; {DAMAGED}")
    for segment in dataset.segments:
        arrays = {name: stack[segment.row] for name, stack in dataset.arrays[segment.file - 1].items()}
        check_segment(Segment(**arrays), f"{where}: segment {segment.id}")
    known = {segment.id for segment in dataset.segments}
    for query in dataset.queries:
        for missing in set(query.segments) - known:
            raise UserError(f"{where}: query {query.id} shows segment {missing}, which is not there; {DAMAGED}")
    _check_answers(dataset, where)


def _check_answers(dataset: Dataset, where: str) -> None:
    size_of = {query.id: len(query.segments) for query in dataset.queries}
    standing: set[tuple[int, int]] = set()  # (answer, query) of those so far that none has superseded
    for line in dataset.answers:
        here = f"{where}: answer {line.id}"
        if line.query_id not in size_of:
            raise UserError(f"{here} is to query {line.query_id}, which is not there; {DAMAGED}")
        try:
            ranking = line.answer().ranking
        except UserError as error:
            raise UserError(f"{here}: {error}; {DAMAGED}") from error
        if ranking and sum(map(len, ranking)) != size_of[line.query_id]:
            raise UserError(f"{here} ranks {line.ranking}, its query has {size_of[line.query_id]} segments; {DAMAGED}")
        if line.supersedes is not None:
            if (line.supersedes, line.query_id) not in standing:
                raise UserError(f"{here} supersedes {line.supersedes}, no standing answer to its query; {DAMAGED}")
            standing.remove((line.supersedes, line.query_id))
        standing.add((line.id, line.query_id))
