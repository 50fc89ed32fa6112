"""A scaffold with marked places to grow at: read, written so that one place stands last, and looked for in molecules.

A causal model only ever adds to the end of a string, so what it adds to a finished scaffold hangs on the atom that the
writing ends in. A scaffold with several places is grown at one after the other, each time in a writing of the whole
molecule so far that ends in the next place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rdkit import Chem, rdBase

TRIES = 64  # random writings of one molecule; about one in four ends in a given atom
_ORDERS = {Chem.BondType.SINGLE: 1, Chem.BondType.DOUBLE: 2, Chem.BondType.TRIPLE: 3}
_INDEX = "scaffold_index"  # property of an atom: its index in the scaffold as it was given


@dataclass(frozen=True)
class Writing:
    """SMILES of a molecule without the place that it ends in, and the order (1 to 3) of the bond it leaves open."""

    smiles: str
    bond: int


class Scaffold:
    """A molecule with places to grow at, written as `*` or `[*:1]`; without any, it may grow wherever a hydrogen is.

    Places are grown in the order of their numbers, then of the SMILES.

    Raises:
        ValueError: it cannot be read, is more than one molecule, or a mark is not bound to exactly one atom.
    """

    def __init__(self, smiles: str) -> None:
        with rdBase.BlockLogs():
            molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or not molecule.GetNumAtoms() or "." in smiles:
            raise ValueError(f"prompt={smiles!r} is no single molecule that RDKit reads; give one as SMILES.")
        marks = [atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0]
        for mark in marks:
            bonds = [bond.GetBondType() for bond in mark.GetBonds()]
            if len(bonds) != 1 or bonds[0] not in _ORDERS or mark.GetNeighbors()[0].GetAtomicNum() == 0:
                raise ValueError(
                    f"prompt={smiles!r} has a mark that is not bound to one atom; write it as in *c1ccccc1."
                )
        for atom in molecule.GetAtoms():
            atom.SetIntProp(_INDEX, atom.GetIdx())
        self.smiles, self.molecule = smiles, molecule
        order = sorted(marks, key=lambda mark: (mark.GetAtomMapNum(), mark.GetIdx()))
        self.places = tuple(mark.GetIdx() for mark in order)
        self.core = _closed(molecule, self.places)
        self._strict = _exact(molecule)

    def within(self, molecule: Chem.Mol) -> bool:
        """Whether the molecule contains the scaffold, whatever else hangs on it."""
        return molecule.HasSubstructMatch(self.core)

    def grown_in(self, molecule: Chem.Mol) -> bool:
        """Whether it contains it with something at every place, and nothing at any other of its atoms."""
        return molecule.HasSubstructMatch(self._strict)

    def first_growths(self) -> list[Chem.Mol]:
        """The scaffold with a mark at its first place alone; without places, one molecule for each kind of its atoms
        that has a hydrogen to give."""
        if self.places:
            return [_closed(self.molecule, self.places[1:])]
        atoms = [atom.GetIdx() for atom in self.molecule.GetAtoms() if atom.GetTotalNumHs()]
        marked = [_marked(self.molecule, index, Chem.BondType.SINGLE) for index in atoms]
        return list({Chem.MolToSmiles(m): m for m in marked if m is not None}.values())

    def next_growth(self, molecule: Chem.Mol, grown: int) -> Chem.Mol | None:
        """A molecule that has grown at the first `grown` places alone, with a mark at the next; None of any other."""
        place = self.molecule.GetAtomWithIdx(self.places[grown])
        (bond,) = place.GetBonds()
        query = _exact(_closed(self.molecule, self.places[grown:]))
        match = molecule.GetSubstructMatch(query)
        if not match:
            return None
        beside = bond.GetOtherAtomIdx(place.GetIdx())
        (atom,) = (a.GetIdx() for a in query.GetAtoms() if a.GetIntProp(_INDEX) == beside)
        return _marked(molecule, match[atom], bond.GetBondType())


def writings(molecule: Chem.Mol, *, seed: int = 0, tries: int = TRIES) -> Iterator[Writing]:
    """Different SMILES of a molecule with one mark that end in it, the mark itself left out."""
    plain = Chem.Mol(molecule)
    (mark,) = (atom for atom in plain.GetAtoms() if atom.GetAtomicNum() == 0)
    for atom in plain.GetAtoms():
        atom.SetAtomMapNum(0)
    mark.SetIsotope(0)
    order = _ORDERS[mark.GetBonds()[0].GetBondType()]
    for text in dict.fromkeys(Chem.MolToRandomSmilesVect(plain, tries, randomSeed=seed + 1)):
        if text.endswith("*"):
            yield Writing(text.removesuffix("*").rstrip("=#"), order)


def _closed(molecule: Chem.Mol, places: Sequence[int]) -> Chem.Mol:
    """The molecule with hydrogen at these places."""
    changed = Chem.RWMol(molecule)
    for index in places:
        mark = changed.GetAtomWithIdx(index)
        mark.SetAtomicNum(1)
        mark.SetAtomMapNum(0)
        mark.SetIsotope(0)
        mark.GetBonds()[0].SetBondType(Chem.BondType.SINGLE)
    Chem.SanitizeMol(changed)
    return Chem.RemoveHs(changed)


def _exact(molecule: Chem.Mol) -> Chem.Mol:
    """A query in which each atom has the neighbours that are drawn, and a mark is any atom."""
    how = Chem.AdjustQueryParameters.NoAdjustments()
    how.makeDummiesQueries = True
    how.adjustDegree = True
    how.adjustDegreeFlags = Chem.AdjustQueryWhichFlags.ADJUST_IGNOREDUMMIES
    plain = Chem.Mol(molecule)
    for atom in plain.GetAtoms():  # numbers and isotopes of marks are names, not part of what is looked for
        if atom.GetAtomicNum() == 0:
            atom.SetAtomMapNum(0)
            atom.SetIsotope(0)
    return Chem.AdjustQueryProperties(plain, how)


def _marked(molecule: Chem.Mol, atom: int, bond: Chem.BondType) -> Chem.Mol | None:
    """The molecule with a mark in place of hydrogen of one atom; None where the atom has too few."""
    changed = Chem.RWMol(molecule)
    host = changed.GetAtomWithIdx(atom)
    if host.GetTotalNumHs() < _ORDERS[bond]:
        return None
    host.SetNumExplicitHs(max(0, host.GetNumExplicitHs() - _ORDERS[bond]))
    changed.AddBond(atom, changed.AddAtom(Chem.Atom(0)), bond)
    with rdBase.BlockLogs():
        return changed.GetMol() if Chem.SanitizeMol(changed, catchErrors=True) == 0 else None
