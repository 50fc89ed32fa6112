"""Ragged arrays on disk: memory-mapped, checksummed, and written whole or not at all.

A built data set is a folder: one `NAME.npy` per array, `manifest.json` with the SHA-256 of each, and
`rejected.csv`. Ragged values lie end to end with int64 offsets, (examples + 1,), beside them. A folder is
written under a temporary name and renamed when complete, so whatever carries the final name is complete; of
two processes that build the same thing the slower one discards its copy.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.batch import AtomicManifest, Manifest, TextManifest
from chemscale.data.staging import OccupiedError, whole_folder
from chemscale.data.subsets import ORDER_RULE, SPLITS
from chemscale.values import canonical_json

BUILDER = 1  # rises when the same file would be built into different arrays
MANIFEST_FILE = "manifest.json"
REJECTED_FILE = "rejected.csv"


@dataclass(frozen=True)
class Rejected:
    """A record that was skipped: its line (or index, for structures), why, and its text."""

    line: int
    reason: str
    text: str

    @property
    def kind(self) -> str:
        """The reason without its detail: what the manifest counts by."""
        return self.reason.split(":", 1)[0]


def counted(rejected: Iterable[Rejected]) -> dict[str, int]:
    """Rejected records by kind of reason."""
    counts: dict[str, int] = {}
    for record in rejected:
        counts[record.kind] = counts.get(record.kind, 0) + 1
    return counts


def refuse_empty_counts(source: str, what: str, counts: Sequence[int], groups: int, needed: str) -> None:
    """Refuse examples that leave the training, validation or test split without one.

    Args:
        source: what `Data.source` says.
        what: the examples in words, "molecules" or "structures".
        counts: (splits,) examples of each.
        groups: how many they belong to.
        needed: what a larger file should have more of.

    Raises:
        ValueError: a split is empty; the message has the count of each and the number of groups.
    """
    if all(counts):
        return
    found = ", ".join(f"{count:,} {name}" for count, name in zip(counts, SPLITS, strict=True))
    raise ValueError(
        f"Data.source={source!r} leaves a split empty: {found} {what}, from {groups:,} distinct "
        f"group{'' if groups == 1 else 's'}, where a group falls into one split as a whole; give a file with {needed}."
    )


class ArrayFile:
    """An array on disk, written end to end in pieces; as a context manager it closes the file.

    `checksum` is that of the whole array once all of it is written.
    """

    def __init__(self, path: Path, dtype: Any, length: int, inner: tuple[int, ...] = ()) -> None:
        self.dtype, self.shape = np.dtype(dtype), (length, *inner)
        self._handle = path.open("wb")
        self._sum = _sum_of(self.dtype, self.shape)
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self._handle, header)

    def append(self, values: np.ndarray) -> None:
        """Write the next values."""
        data = np.ascontiguousarray(values, dtype=self.dtype).data
        self._handle.write(data)
        self._sum.update(data)

    @property
    def checksum(self) -> str:
        return self._sum.hexdigest()

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()


def publish(
    final: Path, manifest: Manifest, arrays: Mapping[str, np.ndarray], rejected: Iterable[Rejected]
) -> Manifest:
    """Write a data set whole under its final name, and return its manifest with the `content` checksum filled in."""
    with staged(final) as folder:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        sums = {name: _array_sum(array) for name, array in arrays.items()}
        return complete(folder, manifest, sums, rejected)


def complete(folder: Path, manifest: Manifest, sums: Mapping[str, str], rejected: Iterable[Rejected]) -> Manifest:
    """Write what belongs beside the arrays of a staged folder; the manifest with `content` filled in.

    Args:
        folder: where every array lies already, as `NAME.npy`.
        manifest: without its `content`.
        sums: checksum of each array.
        rejected: records that were skipped.
    """
    manifest = replace(manifest, content=_content(manifest, sums))
    _write_rejected(folder / REJECTED_FILE, rejected)
    text = json.dumps({"manifest": manifest.to_dict(), "arrays": sums}, indent=1)
    (folder / MANIFEST_FILE).write_text(text)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a built folder."""
    tree = json.loads((folder / MANIFEST_FILE).read_text())["manifest"]
    if tree["family"] == "text":
        return TextManifest(**{**tree, "vocabulary": tuple(tree["vocabulary"])})
    reference = {int(number): value for number, value in tree["reference"].items()}
    return AtomicManifest(**{**tree, "species": tuple(tree["species"]), "reference": reference})


def open_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a built folder, memory-mapped and read-only."""
    names = json.loads((folder / MANIFEST_FILE).read_text())["arrays"]
    return {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names}


def verify(folder: Path) -> None:
    """Compare every array with its checksum.

    Raises:
        ValueError: an array is missing, unreadable or not what was built; the message names it.
    """
    for name, expected in json.loads((folder / MANIFEST_FILE).read_text())["arrays"].items():
        try:
            found = _array_sum(np.load(folder / f"{name}.npy", mmap_mode="r"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder}: array {name!r} cannot be read ({error}); {_rebuild(folder)}") from error
        if found != expected:
            raise ValueError(f"{folder}: array {name!r} is not what was built (SHA-256 differs); {_rebuild(folder)}")


def ragged_index(offsets: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the values of some examples lie, end to end: (values,) int64 positions, and (ids,) int64 lengths."""
    starts = offsets[ids]
    lengths = offsets[np.asarray(ids) + 1] - starts
    ends = np.cumsum(lengths)
    shift = np.repeat(starts - (ends - lengths), lengths)
    return shift + np.arange(len(shift)), lengths


def _rebuild(folder: Path) -> str:
    return "delete the folder and run `chemscale data build` again."


def _array_sum(array: np.ndarray) -> str:
    whole = _sum_of(array.dtype, array.shape)
    whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


def _sum_of(dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    return hashlib.sha256(f"{dtype.str}:{shape}:".encode())


def _content(manifest: Manifest, sums: Mapping[str, str]) -> str:
    facts: dict[str, Any] = {
        "family": manifest.family,
        "builder": manifest.builder,
        "order": ORDER_RULE,
        **sums,
    }
    if isinstance(manifest, TextManifest):
        facts |= {"vocabulary": manifest.vocabulary, "representation": manifest.representation}
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()


def _write_rejected(path: Path, rejected: Iterable[Rejected]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["line", "reason", "text"])
        writer.writerows((r.line, r.reason, r.text) for r in rejected)


@contextmanager
def staged(final: Path) -> Iterator[Path]:
    """A temporary folder beside `final` that takes its name at the end, unless another process was faster."""
    with suppress(OccupiedError), whole_folder(final) as folder:
        yield folder
