"""What a sample is held against: the published MOSES test sets, the embedded sample of them, or a file of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from chemscale.data.moses_published import FILTERS, TESTS, Published, read_published
from chemscale.data.readers import read_strings
from chemscale.data.sources import embedded, fetched
from chemscale.use.quality.describe import describe
from chemscale.use.quality.frechet import Activations, activations, require_chemnet

MOSES, EMBEDDED = "moses", "embedded"
FETCH = "chemscale data fetch moses"


@dataclass(frozen=True)
class Against:
    """One set of molecules that a sample is compared with.

    Attributes:
        name: "test" or "scaffolds" of MOSES, or of the file.
        fingerprints: (molecules, 128) uint8.
        fragments, scaffolds: counts.
        properties: (molecules, 4) float64, as `describe.PROPERTIES`.
        chemnet: statistics of ChemNet's activations; None of fewer than two molecules.
    """

    name: str
    fingerprints: np.ndarray
    fragments: Counter[str]
    scaffolds: Counter[str]
    properties: np.ndarray
    chemnet: Activations | None

    @property
    def molecules(self) -> int:
        """How many there are."""
        return len(self.fingerprints)


@dataclass(frozen=True)
class Reference:
    """All that a sample is compared with.

    Attributes:
        name: "moses", "embedded" or the file.
        sets: to compare with; the properties' distances are measured to the first.
        known: canonical SMILES of the training molecules; None where there are none to tell novelty by.
        filters: folder of the filters of MOSES; None where they are not on this machine.
        says: what a reader of the numbers must know.
    """

    name: str
    sets: tuple[Against, ...]
    known: frozenset[str] | None
    filters: Path | None
    says: tuple[str, ...] = ()


def reference(
    name: str, training: str | None = None, *, processes: int | None = None, progress: bool | None = None
) -> Reference:
    """The reference of this name.

    Args:
        name: "moses" (176,074 and 176,225 molecules, fetched once), "embedded" (5,000 of them, in the package), or the
            path of a file of molecules.
        training: a file of molecules whose absence makes a sample new; MOSES has its own.

    Raises:
        ValueError: MOSES was not fetched, the file is missing, or `fcd_torch` is not installed.
    """
    require_reference(name, training)
    filters = fetched("moses-published")
    filters = filters if all((filters / file).is_file() for file in FILTERS) else None
    if name == MOSES:
        return _moses(filters, training)
    if name == EMBEDDED:
        path = embedded("moses-test.parquet")
        says = (
            "The reference is the 5,000 test molecules that ship with the package: FCD, SNN and Scaf depend on the "
            f"size of the reference, so these are no figures to lay beside published ones; `{FETCH}` gets the whole.",
        )
        known = _known(training) if training else frozenset(_column(embedded("moses-train.parquet")))
        smiles = _column(path)
    else:
        path, says = Path(name), ()
        known, smiles = _known(training) if training else None, _strings(path)
    if filters is None:
        says += (f"The filters of MOSES are not on this machine; `{FETCH}` gets them.",)
    found = describe(smiles, filters=None, processes=processes, progress=progress, label=f"reading {path.name}")
    if not found.smiles:
        raise ValueError(f"--reference {name!r} holds no molecule that can be read.")
    chemnet = activations(found.smiles, progress=progress)
    against = Against(path.name, found.fingerprints, found.fragments, found.scaffolds, found.properties, chemnet)
    return Reference(name, (against,), known, filters, says)


def require_reference(name: str, training: str | None = None) -> None:
    """Make sure that `reference` will find its files here.

    Raises:
        ValueError: as `reference`.
    """
    require_chemnet()
    published = all((fetched("moses-published") / file).is_file() for file in FILTERS)
    if name == MOSES and not (published and (fetched("moses") / "train.csv.gz").is_file()):
        raise ValueError(
            f"--reference moses is not on this machine; run `{FETCH}` once, or compare with the 5,000 molecules that "
            "ship with the package by --reference embedded."
        )
    if name not in (MOSES, EMBEDDED) and not Path(name).is_file():
        raise ValueError(f"--reference {name!r} is neither {MOSES}, {EMBEDDED} nor a file on this machine.")
    if training is not None and not Path(training).is_file():
        raise ValueError(f"--training {training!r} is no file on this machine.")


def _moses(filters: Path | None, training: str | None) -> Reference:
    folder, molecules = fetched("moses-published"), fetched("moses")
    sets = tuple(_published(name, read_published(folder, name)) for name in TESTS)
    known = _known(training) if training else frozenset(_strings(molecules / "train.csv.gz"))
    return Reference(MOSES, sets, known, filters)


def _published(name: str, found: Published) -> Against:
    chemnet = Activations(found.mean, found.covariance)
    return Against(name, found.fingerprints, found.fragments, found.scaffolds, found.properties, chemnet)


def _known(training: str) -> frozenset[str]:
    from rdkit import Chem, rdBase

    path = Path(training)
    with rdBase.BlockLogs():
        molecules = (Chem.MolFromSmiles(text) for text in _strings(path))
        return frozenset(Chem.MolToSmiles(m) for m in molecules if m is not None)


def _strings(path: Path) -> Iterable[str]:
    return [text for _, text in read_strings(path)]


def _column(path: Path) -> list[str]:
    return pq.read_table(path, columns=["smiles"])["smiles"].to_pylist()
