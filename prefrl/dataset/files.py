"""A data set as files: JSON lines, uncompressed .npz and a list of checksums; reading trusts none of them."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from numpy.typing import NDArray

from prefrl.dataset.contents import DAMAGED, AnswerLine, Arrays, Dataset, Model, QueryLine, SegmentLine, check, parse
from prefrl.errors import UserError
from prefrl.preferences.arrays import ARRAYS, DTYPES, OPTIONAL_ARRAYS

VERSION = 3  # 1 did not say at which step a run asked and took, 2 what an action led to
ABOUT, SEGMENTS, QUERIES, ANSWERS = "dataset.json", "segments.jsonl", "queries.jsonl", "answers.jsonl"
PREDICTOR = "predictor.safetensors"
CHECKSUMS = "SHA256SUMS"  # of all but the cards, which are the publisher's to edit
MAX_BYTES = 4 << 30  # of one file; thousands of segments take some 20 MB


class About(pydantic.BaseModel, strict=True, frozen=True):
    """dataset.json."""

    version: int
    task: str | None
    segments: int
    queries: int
    answers: int
    array_files: int


def arrays_name(k: int) -> str:
    """The file of Dataset.arrays[k - 1]."""
    return f"arrays-{k}.npz"


def dataset_files(dataset: Dataset) -> dict[str, bytes]:
    """What the folder holds of it, by file name.

    Raises:
        UserError: a file would be too long to be read back.
    """
    about = About(version=VERSION, task=dataset.task, array_files=len(dataset.arrays), **dataset.counts())
    files = {ABOUT: json.dumps(about.model_dump(), indent=2, ensure_ascii=False).encode() + b"\n"}
    for name, lines in ((SEGMENTS, dataset.segments), (QUERIES, dataset.queries), (ANSWERS, dataset.answers)):
        files[name] = "".join(json.dumps(line.model_dump(), ensure_ascii=False) + "\n" for line in lines).encode()
    for k, arrays in enumerate(dataset.arrays, 1):
        npz = io.BytesIO()
        little_endian: Any = {name: x.astype(x.dtype.newbyteorder("<"), copy=False) for name, x in arrays.items()}
        np.savez(npz, **little_endian)
        files[arrays_name(k)] = npz.getvalue()
    for name, data in files.items():
        if len(data) > MAX_BYTES:
            raise UserError(f"{name} would have {len(data)} bytes, and at most {MAX_BYTES} are read back; export less")
    return files


def checksums(files: dict[str, bytes]) -> bytes:
    """SHA256SUMS, as `sha256sum` writes it."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()).encode()


def read_dataset(folder: Path) -> Dataset:
    """Read and check an exported folder.

    Raises:
        UserError: a file is missing, does not match its checksum, or holds what an export never does.
    """
    lines = read_file(folder / CHECKSUMS).decode("ascii", "replace").splitlines()
    expected = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}

    def read(name: str) -> bytes:
        data = read_file(folder / name)
        if hashlib.sha256(data).hexdigest() != expected.get(name):
            raise UserError(
                f"{folder / name} does not match its checksum in {CHECKSUMS}; {DAMAGED}, "
                f"or if you changed it yourself, write {CHECKSUMS} again with sha256sum"
            )
        return data

    def read_lines(name: str, model: type[Model]) -> list[Model]:
        texts = read(name).removesuffix(b"\n").split(b"\n")
        return [parse(model, text, f"{folder / name} line {i}") for i, text in enumerate(texts, 1) if texts != [b""]]

    about = parse(About, read(ABOUT), str(folder / ABOUT))
    if not 1 <= about.version <= VERSION:
        raise UserError(
            f"{folder / ABOUT} has version {about.version}, this prefrl reads 1 to {VERSION}; upgrade prefrl"
        )
    dataset = Dataset(
        about.task,
        read_lines(SEGMENTS, SegmentLine),
        read_lines(QUERIES, QueryLine),
        read_lines(ANSWERS, AnswerLine),
        [_read_npz(read(name), folder / name) for name in map(arrays_name, range(1, about.array_files + 1))],
    )
    for kind, count in dataset.counts().items():
        if count != getattr(about, kind):
            raise UserError(f"{folder} holds {count} {kind} where {ABOUT} says {getattr(about, kind)}; {DAMAGED}")
    if PREDICTOR in expected:
        read(PREDICTOR)
    check(dataset, str(folder))
    return dataset


def read_file(path: Path) -> bytes:
    """All of a file.

    Raises:
        UserError: there is none, it may not be read, or it is none to be read at once.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:  # a pipe or a device would never end
            raise UserError(f"{path} is no plain file of at most {MAX_BYTES} bytes; {DAMAGED}")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a folder that prefrl export wrote") from error


def _read_npz(data: bytes, path: Path) -> Arrays:
    """The arrays of an uncompressed .npz; together they are no larger than the file, whatever it declares."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            wanted = [name for name in ARRAYS if name in names or name not in OPTIONAL_ARRAYS]
            if sorted(names) != sorted(wanted) or any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise UserError(f"{path} holds {ascii(names)[:80]}, not uncompressed {', '.join(wanted)}; {DAMAGED}")
            arrays = {
                name: _read_npy(archive.read(member), name, f"{path}: {name}")
                for name, member in zip(names, members, strict=True)
            }
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, LookupError, RuntimeError, struct.error) as error:
        raise UserError(f"{path}: {str(error) or type(error).__name__}; {DAMAGED}") from error
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise UserError(f"{path} has numbers of segments that differ, {lengths}; {DAMAGED}")
    return arrays


# As NumPy writes it, and no more: NumPy's own reader takes any Python literal for a header, and believes its shape.
NPY_MAGIC = b"\x93NUMPY\x01\x00"
NPY_HEADER = re.compile(
    rb"\{'descr': '([<|][a-z][1248])', 'fortran_order': False, 'shape': \(([0-9]{1,9}(?:, [0-9]{1,9})+)\), \} *\n"
)


def _read_npy(data: bytes, name: str, where: str) -> NDArray[Any]:
    start = 10 + int.from_bytes(data[8:10], "little")
    header = NPY_HEADER.fullmatch(data, 10, start) if data.startswith(NPY_MAGIC) else None
    if header is None or header[1].decode() not in DTYPES:
        raise UserError(f"{where} begin {data[:128]!a}, which is no array of plain numbers; {DAMAGED}")
    dtype, shape = np.dtype(header[1].decode()), tuple(map(int, header[2].split(b", ")))
    dimensions, expected = 2 if name == "true_rewards" else 3, math.prod(shape) * dtype.itemsize
    if len(shape) != dimensions or expected != len(data) - start:
        raise UserError(
            f"{where} hold {len(data) - start} bytes where {dtype} of shape {shape} takes {expected}, "
            f"and have {dimensions} dimensions in a whole file; {DAMAGED}"
        )
    little_endian = np.frombuffer(data[start:], dtype).reshape(shape)
    return little_endian.astype(dtype.newbyteorder("="))
