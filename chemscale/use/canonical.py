"""Token ids back into canonical molecules, in this process or in several."""

from __future__ import annotations

from dataclasses import dataclass

from rdkit import Chem, rdBase

from chemscale.data.tokens import join, smiles_of, version_of


@dataclass(frozen=True)
class Ids:
    """Strings for one process to read: ids without start and end token, None where a string never ended."""

    rows: tuple[tuple[int, ...] | None, ...]
    vocabulary: tuple[str, ...]
    representation: str


def read_ids(task: Ids) -> list[str | None]:
    """Canonical SMILES of each row, or the sequence of a protein; None where it is no molecule."""
    with rdBase.BlockLogs():
        version = version_of(task.vocabulary)
        texts = (join(row, task.vocabulary) if row else None for row in task.rows)
        return [None if text is None else read_text(text, task.representation, version) for text in texts]


def read_text(text: str, representation: str, version: int = 2) -> str | None:
    """Canonical SMILES of a SELFIES (of this version) or SMILES string; None where RDKit reads no molecule in it. The
    letters of a protein are its sequence."""
    if representation == "protein":
        return text
    smiles = smiles_of(text, version) if representation == "selfies" else text
    molecule = None if smiles is None else Chem.MolFromSmiles(smiles)
    return Chem.MolToSmiles(molecule) if molecule is not None and molecule.GetNumAtoms() else None
