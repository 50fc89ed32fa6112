"""The medicinal-chemistry filters of MOSES: unwanted groups and PAINS, from the lists that its wheel carries."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from rdkit import Chem

FILES = ("mcf.csv", "wehi_pains.csv")
ELEMENTS = {"C", "N", "S", "O", "F", "Cl", "Br", "H"}
LARGEST_RING = 7  # atoms


def read_patterns(folder: Path) -> tuple[Chem.Mol, ...]:
    """The substructures that no molecule may hold: column `smarts` of the one file, the first of the other."""
    with (folder / FILES[0]).open(newline="") as file:
        smarts = [row["smarts"] for row in csv.DictReader(file)]
    with (folder / FILES[1]).open(newline="") as file:
        smarts += [row[0] for row in csv.reader(file)]
    return tuple(Chem.MolFromSmarts(text.strip()) for text in smarts)


def passes(molecule: Chem.Mol, patterns: Sequence[Chem.Mol]) -> bool:
    """No ring above seven atoms, no charge, no rare element, and none of the patterns (hydrogens written out)."""
    if any(len(ring) > LARGEST_RING for ring in molecule.GetRingInfo().AtomRings()):
        return False
    if any(atom.GetFormalCharge() or atom.GetSymbol() not in ELEMENTS for atom in molecule.GetAtoms()):
        return False
    whole = Chem.AddHs(molecule)
    return not any(whole.HasSubstructMatch(pattern) for pattern in patterns)
