"""What MOSES publishes beside its molecules: statistics of its test sets, and its filters, out of the same wheel.

The statistics are pickled there; they are read once, right after the wheel's checksum was compared, and kept as plain
arrays.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data.moses import fetch_from_wheel

TESTS = {"test": "test_stats.npz", "scaffolds": "test_scaffolds_stats.npz"}  # the two test sets
FILTERS = ("mcf.csv", "wehi_pains.csv")
PROPERTIES = ("logP", "SA", "QED", "weight")


@dataclass(frozen=True)
class Published:
    """Statistics of one test set.

    Attributes:
        fingerprints: (molecules, 128) uint8, Morgan, radius 2, 1,024 bits, eight to a byte.
        fragments, scaffolds: how often each BRICS fragment and each scaffold of two rings or more occurs.
        properties: (molecules, 4) float64, as `PROPERTIES`.
        mean, covariance: (512,) and (512, 512) of ChemNet's activations.
    """

    fingerprints: np.ndarray
    fragments: Counter[str]
    scaffolds: Counter[str]
    properties: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


def fetch_published(folder: Path) -> Path:
    """Download the wheel with pip, check it, and keep its statistics and filters.

    Raises:
        RuntimeError: pip could not download it, or what came is not the known file.
    """
    return fetch_from_wheel(folder, (*FILTERS, *(f"{name}.npz" for name in TESTS)), _unpack)


def read_published(folder: Path, test: str) -> Published:
    """Statistics of the test set "test" or "scaffolds"."""
    with np.load(folder / f"{test}.npz", allow_pickle=False) as arrays:
        counts = {name: Counter(json.loads(arrays[name].tobytes())) for name in ("fragments", "scaffolds")}
        names = ("fingerprints", "properties", "mean", "covariance")
        return Published(**counts, **{name: arrays[name] for name in names})


def _unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    for name in FILTERS:
        (folder / name).write_bytes(archive.read(f"moses/metrics/{name}"))
    for name, member in TESTS.items():
        _write(folder / f"{name}.npz", _read(archive.read(f"moses/dataset/data/{member}")))


def _read(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=True) as arrays:  # of the wheel whose checksum is known
        return arrays["stats"].item()


def _write(path: Path, found: dict[str, Any]) -> None:
    properties = np.stack([np.asarray(found[name]["values"], dtype=np.float64) for name in PROPERTIES], axis=1)
    np.savez(
        path,
        fingerprints=np.packbits(found["SNN"]["fps"], axis=1),
        fragments=_counts(found["Frag"]["frag"]),
        scaffolds=_counts(found["Scaf"]["scaf"]),
        properties=properties,
        mean=found["FCD"]["mu"],
        covariance=found["FCD"]["sigma"],
    )


def _counts(counts: Counter[str]) -> np.ndarray:
    return np.frombuffer(json.dumps(counts).encode(), dtype=np.uint8)
