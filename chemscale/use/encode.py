"""Molecules (or proteins) of a user's file as a model reads them, or the reason why it cannot."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import selfies
from rdkit import Chem, rdBase

from chemscale.batch import TextManifest
from chemscale.data.fasta import residues
from chemscale.data.selfies_writer import SelfiesWriter
from chemscale.data.tokens import require_plain, split_string
from chemscale.data.vocabulary import Vocabulary, vocabulary_in

NOTATIONS = ("smiles", "selfies")  # of molecules
PROTEIN = "protein"
CHARACTERS = 20  # of one token at most, brackets and charges included
_SELFIES = re.compile(r"(\[[^\[\]]+\]\.?){3,}")  # fewer brackets may be a SMILES string of bare atoms


@dataclass(frozen=True)
class Model:
    """What a model reads: representation, its tokens' ids, and the most of them that fit behind a start token."""

    representation: str
    ids: dict[str, int]
    longest: int
    vocabulary: Vocabulary

    def spelled(self, token: str) -> tuple[str, ...] | None:
        """The entries that stand for a token; None where it is unknown or special."""
        entries = self.vocabulary.spelled(token)
        return entries if entries is not None and all(entry in self.ids for entry in entries) else None


@dataclass(frozen=True)
class Task:
    """Strings for one process, and what they are written in."""

    strings: tuple[str, ...]
    notation: str
    model: Model


def model_of(manifest: TextManifest, context: int) -> Model:
    """What a model of this vocabulary and context reads."""
    special = {manifest.pad, manifest.start, manifest.end, manifest.unknown}
    ids = {token: i for i, token in enumerate(manifest.vocabulary) if i not in special}
    return Model(manifest.representation, ids, context - 1, vocabulary_in(manifest))


def notation_of(strings: Iterable[str]) -> str:
    """What most of the first strings of a file are written in."""
    looked_at = [text for text in strings if text]
    return "selfies" if 2 * sum(map(_is_selfies, looked_at)) > len(looked_at) else "smiles"


def encode_task(task: Task) -> list[tuple[int, ...] | str]:
    """Ids of each string without start and end token, or the reason why there are none; the work of one process."""
    with rdBase.BlockLogs():
        return [_encoded(text, task.notation, task.model) for text in task.strings]


def _encoded(text: str, notation: str, model: Model) -> tuple[int, ...] | str:
    if not text:
        return "empty line"
    if len(text) > CHARACTERS * (model.longest + 1):  # before RDKit, whose time grows with the square of the atoms
        return f"{len(text)} characters, more than the {model.longest} tokens that the model reads"
    try:
        tokens = list(residues(text)) if notation == PROTEIN else _of_molecule(text, notation, model.representation)
    except ValueError as reason:
        return str(reason)
    spelled = [(token, model.spelled(token)) for token in tokens]
    unknown = [token for token, entries in spelled if entries is None]
    if unknown:
        return f"unknown to the model: {', '.join(dict.fromkeys(unknown))}"
    ids = tuple(model.ids[entry] for _, entries in spelled for entry in entries or ())
    if len(ids) > model.longest:
        return f"{len(ids)} tokens, more than the {model.longest} that the model reads"
    return ids


def _of_molecule(text: str, notation: str, representation: str) -> list[str]:
    """Tokens through canonical SMILES, as training molecules went, whatever it is written in.

    Raises:
        ValueError: there are none; the message is the reason.
    """
    require_plain(text)
    if _is_selfies(text) != (notation == "selfies"):
        raise ValueError("looks like SELFIES" if notation == "smiles" else "not a SELFIES string")
    try:
        molecule = Chem.MolFromSmiles(selfies.decoder(text) if notation == "selfies" else text)
        if molecule is None or not molecule.GetNumAtoms():
            raise ValueError(f"not a {notation.upper()} string of a molecule")
        smiles = Chem.MolToSmiles(molecule)
        return split_string(_writer()(smiles) if representation == "selfies" else smiles, representation)
    except selfies.DecoderError:
        raise ValueError("not a SELFIES string") from None
    except selfies.EncoderError:
        raise ValueError("SELFIES cannot express it") from None


@lru_cache(maxsize=1)
def _writer() -> SelfiesWriter:
    """One for each process, since it remembers the atoms that it has met."""
    return SelfiesWriter()


def _is_selfies(text: str) -> bool:
    return _SELFIES.fullmatch(text) is not None
