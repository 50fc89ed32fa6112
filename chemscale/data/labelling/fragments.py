"""SMILES in, molecules small enough to label out: read, cut, cap, tell apart.

A molecule is one stereo-free canonical SMILES, and of those that share a group key (groups among them) only
the first is taken: every group of a split then holds the same number of structures.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rdkit import Chem, rdBase
from rdkit.Chem import BRICS

from chemscale.data.files import TEXT_SUFFIXES
from chemscale.data.groups import group_key
from chemscale.data.readers import read_strings

ELEMENTS = ("H", "C", "N", "O", "F", "S", "Cl", "Br")
MIN_ATOMS = 4  # with hydrogens: below that there is no angle between two bonds and a third to learn from


@dataclass(frozen=True)
class Reject:
    """Something that was left out: the line it came from (1 is the first), its SMILES, and why."""

    line: int
    smiles: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Candidate:
    """A molecule to label: stereo-free canonical SMILES, and the line it was first met on."""

    smiles: str
    line: int


@dataclass
class Tally:
    """What `candidates` met on its way: lines read, rejected lines, and pieces left out, by reason."""

    lines: int = 0
    rejects: list[Reject] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def read_smiles(path: str | Path) -> Iterator[tuple[int, str]]:
    """Line number (1 is the first) and SMILES of each record of a file, as a build reads it (`readers.read_records`);
    records without a string are passed over.

    Raises ValueError for another kind of file, a table without a column of SMILES, or a damaged file.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"source={path} is not a file; give a file of SMILES.")
    if not path.name.lower().endswith((*TEXT_SUFFIXES, ".parquet")):
        known = ", ".join((*TEXT_SUFFIXES, ".parquet"))
        raise ValueError(f"source={path} ends in {path.suffix or 'nothing'}; give one of {known}.")
    return ((line, text) for line, text in read_strings(path) if text)


def candidates(
    records: Iterable[tuple[int, str]],
    *,
    tally: Tally,
    fragments: bool,
    max_atoms: int,
    elements: Iterable[str] = ELEMENTS,
    states: str = "neutral",
) -> Iterator[Candidate]:
    """Different molecules of MIN_ATOMS to `max_atoms` atoms, by first appearance.

    `states`: "neutral" takes neutral closed shells only, "any" takes ions and radicals as they are written.

    With `fragments` each record gives its BRICS pieces (`pieces`), else itself. What is left out goes to
    `tally`.
    """
    allowed = frozenset(elements)
    known: set[str] = set()
    groups: set[str] = set()
    for line, text in records:
        tally.lines += 1
        with rdBase.BlockLogs():
            mol, reason = _parse(text, allowed, states)
            if mol is None:
                tally.rejects.append(Reject(line, text, reason))
                continue
            found = [_identity(part) for part in (pieces(mol, max_atoms) if fragments else [mol])]
            new = [smiles for smiles in dict.fromkeys(found) if smiles and smiles not in known]
            tally.skipped["met before"] += len(found) - found.count("") - len(new)
            if "" in found:
                tally.skipped["no longer a molecule when cut out"] += found.count("")
            known.update(new)
            kept = []
            for smiles in new:
                reason = _unfit(Chem.MolFromSmiles(smiles), max_atoms, groups, states)
                if not reason:
                    kept.append(smiles)
                    continue
                tally.skipped[reason] += 1
                if not fragments:
                    tally.rejects.append(Reject(line, smiles, reason))
        yield from (Candidate(smiles, line) for smiles in kept)


def pieces(mol: Chem.Mol, max_atoms: int) -> Iterator[Chem.Mol]:
    """Parts of a molecule between its BRICS bonds, and pairs of neighbours, open ends capped by hydrogen.

    BRICS: Degen et al., ChemMedChem 3, 1503 (2008). A pair is what is left together when all bonds but one
    are cut; it keeps links (amide, sulfonyl, ether) whole that single pieces break.
    """
    bonds = sorted({mol.GetBondBetweenAtoms(i, j).GetIdx() for (i, j), _ in BRICS.FindBRICSBonds(mol)})
    for kept in (None, *bonds):
        cut = [bond for bond in bonds if bond != kept]
        if not cut:
            yield mol
            continue
        for piece in Chem.GetMolFrags(Chem.FragmentOnBonds(mol, cut), asMols=True):
            if piece.GetNumHeavyAtoms() <= max_atoms:
                yield _capped(piece)


def _capped(piece: Chem.Mol) -> Chem.Mol:
    for atom in piece.GetAtoms():
        if atom.GetAtomicNum() == 0:
            atom.SetAtomicNum(1)
            atom.SetIsotope(0)
    return piece


def _identity(mol: Chem.Mol) -> str:
    """Stereo-free canonical SMILES, '' for a piece that no longer makes sense as a molecule."""
    try:
        mol = Chem.RemoveHs(mol)
        Chem.RemoveStereochemistry(mol)
        return Chem.CanonSmiles(Chem.MolToSmiles(mol))
    except (ValueError, RuntimeError):
        return ""


def _unfit(mol: Chem.Mol, max_atoms: int, groups: set[str], states: str) -> str:
    """'' for a molecule to label, whose group key then joins `groups`; else why not."""
    if not MIN_ATOMS <= Chem.AddHs(mol).GetNumAtoms() <= max_atoms:
        return f"not {MIN_ATOMS} to {max_atoms} atoms with hydrogens"
    if states == "neutral" and Chem.GetFormalCharge(mol) != 0:
        return "charged"
    key = group_key(mol)
    if states != "neutral":  # an ion or a radical is another molecule to label, though of the same group for a split
        key = f"{key} {Chem.GetFormalCharge(mol)} {radical_electrons(mol)}"
    if key in groups:
        return "same group, as a tautomer is, as a molecule already taken"
    groups.add(key)
    return ""


def radical_electrons(mol: Chem.Mol) -> int:
    """Unpaired electrons as a SMILES writes them."""
    return sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())


def _parse(text: str, allowed: frozenset[str], states: str) -> tuple[Chem.Mol | None, str]:
    mol = Chem.MolFromSmiles(text)
    if mol is None or mol.GetNumAtoms() == 0:
        return None, "not a SMILES"
    strange = sorted({atom.GetSymbol() for atom in mol.GetAtoms()} - allowed)
    if strange:
        return None, f"element {', '.join(strange)}"
    if len(Chem.GetMolFrags(mol)) > 1:
        return None, "more than one component"
    if states == "any":
        return mol, ""
    if Chem.GetFormalCharge(mol) != 0:
        return None, "charged"
    if radical_electrons(mol):
        return None, "open shell"
    return mol, ""
