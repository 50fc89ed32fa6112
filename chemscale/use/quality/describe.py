"""Molecules -> what the metrics look at: canonical SMILES, fingerprint, fragments, scaffold, properties, filters.

Shapes: molecules (those that RDKit reads, in order), bits (1,024 of a fingerprint, 8 to a byte).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem, RDConfig, rdBase
from rdkit.Chem import QED, Crippen, Descriptors, rdFingerprintGenerator
from rdkit.Chem.BRICS import BreakBRICSBonds
from rdkit.Chem.Scaffolds import MurckoScaffold

from chemscale.data.parallel import in_chunks, in_processes, progress_bar
from chemscale.data.tokens import is_plain

RADIUS, BITS = 2, 1024  # Morgan fingerprints of MOSES
LEAST_RINGS = 2  # of a scaffold that counts
PROPERTIES = ("logP", "SA", "QED", "weight")
CHUNK = 500  # molecules per task: about two seconds of work


@dataclass(frozen=True)
class Task:
    """Strings for one process; `filters` is the folder of the medicinal-chemistry filters, None to skip them."""

    smiles: tuple[str, ...]
    filters: str | None = None


@dataclass(frozen=True)
class Described:
    """Molecules as the metrics see them.

    Attributes:
        strings: how many were given, molecules or not.
        smiles: canonical SMILES of those that are molecules.
        fingerprints: (molecules, bits / 8) uint8.
        fragments: how often each BRICS fragment occurs.
        scaffolds: how often each Bemis-Murcko scaffold of at least two rings occurs.
        properties: (molecules, 4) float64, as `PROPERTIES`: Crippen logP, synthetic accessibility, QED, weight (g/mol).
        passing: molecules that pass the filters; None where they were skipped.
    """

    strings: int
    smiles: tuple[str, ...]
    fingerprints: np.ndarray
    fragments: Counter[str]
    scaffolds: Counter[str]
    properties: np.ndarray
    passing: int | None


def describe(
    smiles: Iterable[str], *, filters: Path | None, processes: int | None, progress: bool | None, label: str
) -> Described:
    """Describe strings in worker processes, in order, with a progress display."""
    smiles = list(smiles)
    tasks = (Task(tuple(chunk), None if filters is None else str(filters)) for chunk in in_chunks(smiles, CHUNK))
    parts: list[Described] = []
    with progress_bar(len(smiles), label, progress) as shown:
        for part in in_processes(describe_task, tasks, processes):
            shown.advance(part.strings)
            parts.append(part)
    return joined(parts)


def describe_task(task: Task) -> Described:
    """The work of one process."""
    with rdBase.BlockLogs():
        read = [Chem.MolFromSmiles(text) if text and is_plain(text) else None for text in task.smiles]
        molecules = [m for m in read if m is not None and m.GetNumAtoms()]
        passing = None if task.filters is None else sum(map(_filter(task.filters), molecules))
        return Described(
            strings=len(read),
            smiles=tuple(map(Chem.MolToSmiles, molecules)),
            fingerprints=_packed(molecules),
            fragments=Counter(f for m in molecules for f in fragments(m)),
            scaffolds=Counter(s for m in molecules if (s := scaffold(m))),
            properties=np.array([properties(m) for m in molecules]).reshape(-1, len(PROPERTIES)),
            passing=passing,
        )


def joined(parts: Sequence[Described]) -> Described:
    """All parts as one."""
    passing = [part.passing for part in parts]
    return Described(
        strings=sum(part.strings for part in parts),
        smiles=tuple(s for part in parts for s in part.smiles),
        fingerprints=np.concatenate([np.zeros((0, BITS // 8), np.uint8), *(part.fingerprints for part in parts)]),
        fragments=sum((part.fragments for part in parts), Counter()),
        scaffolds=sum((part.scaffolds for part in parts), Counter()),
        properties=np.concatenate([np.zeros((0, len(PROPERTIES))), *(part.properties for part in parts)]),
        passing=None if None in passing else sum(p for p in passing if p is not None),
    )


def fragments(molecule: Chem.Mol) -> list[str]:
    """SMILES of the pieces between BRICS bonds (Degen et al. 2008), with the numbers of their ends."""
    return Chem.MolToSmiles(BreakBRICSBonds(molecule)).split(".")


def scaffold(molecule: Chem.Mol) -> str | None:
    """SMILES of the Bemis-Murcko scaffold; None where it has fewer than two rings."""
    core = MurckoScaffold.GetScaffoldForMol(molecule)
    return Chem.MolToSmiles(core) if core.GetRingInfo().NumRings() >= LEAST_RINGS else None


def properties(molecule: Chem.Mol) -> tuple[float, float, float, float]:
    """Crippen logP, synthetic accessibility (Ertl and Schuffenhauer 2009), QED (Bickerton et al. 2012), weight."""
    return (
        Crippen.MolLogP(molecule),  # type: ignore[attr-defined]
        _synthetic_accessibility()(molecule),
        QED.qed(molecule),
        Descriptors.MolWt(molecule),  # type: ignore[attr-defined]
    )


@cache
def _synthetic_accessibility() -> Callable[[Any], float]:
    """RDKit's own contribution, which is no package of its."""
    folder = str(Path(RDConfig.RDContribDir) / "SA_Score")
    sys.path.append(folder)
    try:
        import sascorer  # type: ignore[import-not-found]
    finally:
        sys.path.remove(folder)
    return sascorer.calculateScore


@cache
def _filter(folder: str) -> Callable[[Chem.Mol], bool]:
    from chemscale.use.quality.filters import passes, read_patterns

    return partial(passes, patterns=read_patterns(Path(folder)))


def _packed(molecules: Iterable[Chem.Mol]) -> np.ndarray:
    """Fingerprints, eight bits to a byte."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    rows: Iterator[np.ndarray] = map(generator.GetFingerprintAsNumPy, molecules)
    return np.packbits(np.array(list(rows), dtype=np.uint8).reshape(-1, BITS), axis=1)
