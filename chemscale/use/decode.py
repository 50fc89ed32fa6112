"""Token ids back into molecules, in this process or in several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import selfies
from rdkit import Chem, rdBase


@dataclass(frozen=True)
class Ids:
    """Strings for one process to read: ids without start and end token, None where a string never ended."""

    rows: tuple[tuple[int, ...] | None, ...]
    vocabulary: tuple[str, ...]
    representation: str


def read_ids(task: Ids) -> list[str | None]:
    """Canonical SMILES of each row; None where it is no molecule."""
    with rdBase.BlockLogs():
        texts = ("".join(task.vocabulary[i] for i in row) if row else None for row in task.rows)
        return [None if text is None else read_text(text, task.representation) for text in texts]


def read_text(text: str, representation: str) -> str | None:
    """Canonical SMILES of a SELFIES or SMILES string; None where RDKit reads no molecule in it."""
    try:
        molecule = Chem.MolFromSmiles(selfies.decoder(text) if representation == "selfies" else text)
    except selfies.DecoderError:
        return None
    return Chem.MolToSmiles(molecule) if molecule is not None and molecule.GetNumAtoms() else None


def join(tokens: Sequence[int], vocabulary: Sequence[str]) -> str:
    """The string that ids spell."""
    return "".join(vocabulary[i] for i in tokens)
