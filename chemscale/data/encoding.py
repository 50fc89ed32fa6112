"""Records of a file -> tokens, digests and rejections: the part of a build that runs in many processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from chemscale.data.fasta import residues
from chemscale.data.groups import group_key, largest_fragment, plain
from chemscale.data.readers import Record
from chemscale.data.store import Rejected
from chemscale.data.subsets import digest
from chemscale.data.tokens import split_string
from chemscale.data.vocabulary import Vocabulary

BY_GROUP, HELD_OUT = 255, 254  # splits still open: any of the three, or valid and test only


@dataclass(frozen=True)
class Encoded:
    """Strings as tokens, end to end.

    Attributes:
        alphabet: text of each local token id; a vocabulary's entries, and whole tokens that it does not know.
        tokens: (tokens,) uint16 local ids, without start and end.
        lengths: (examples,) int64.
        member: (examples,) uint64 digests of canonical SMILES or sequences.
        group: (examples,) uint64 digests of group keys.
        mark: (examples,) uint8, an index into SPLITS or one of the open marks.
        rejected: records that are no example.
        counts: what was changed on the way, by kind, e.g. {"stereochemistry": 12}.
    """

    alphabet: tuple[str, ...]
    tokens: np.ndarray
    lengths: np.ndarray
    member: np.ndarray
    group: np.ndarray
    mark: np.ndarray
    rejected: tuple[Rejected, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Writing:
    """How records become tokens.

    Attributes:
        representation: what tokens are of.
        notation: what records are written in.
        form: of molecules, "written" or "parent".
        vocabulary: whose entries tokens become; None keeps tokens as they are.
        longest: tokens of the longest example, start and end counted; None for any.
        mark: split of all records, or an open mark.
    """

    representation: str
    notation: str
    form: str = "written"
    vocabulary: Vocabulary | None = None
    longest: int | None = None
    mark: int = BY_GROUP


@dataclass(frozen=True)
class Task:
    """Records for one process; `number` is the place of their part among those of the build."""

    number: int
    writing: Writing
    records: list[Record]


@dataclass(frozen=True)
class Example:
    """One record that can be used: what tells duplicates, what decides the split, and its tokens."""

    key: str
    group: str
    tokens: list[str]


def encode(task: Task) -> tuple[int, Encoded]:
    """Encode records; the work of one process."""
    collected = Collected(task.writing)
    for line, text, group in task.records:
        collected.take(line, text, group)
    return task.number, collected.encoded()


class Collected:
    """Records taken one after the other, each an example or a rejection."""

    def __init__(self, writing: Writing) -> None:
        self.writing = writing
        self.counts: Counter[str] = Counter()
        self.rejected: list[Rejected] = []
        self._read = _Sequences() if writing.representation == "protein" else _Molecules(writing, self.counts)
        self._spelled = _speller(writing.vocabulary)
        self._ids: dict[str, int] = {}
        self._rows: list[list[int]] = []
        self._keys: list[int] = []
        self._groups: list[int] = []

    def take(self, line: int, text: str, group: str | None) -> Example | None:
        """Take one record; the example that it is, or None where it was rejected."""
        ids = self._ids
        try:
            if not text:
                raise ValueError("empty line")
            example = self._read(text, group)
            row = [ids.setdefault(token, len(ids)) for token in self._spelled(example.tokens)]
            if self.writing.longest is not None and len(row) + 2 > self.writing.longest:
                raise ValueError(f"longer than {self.writing.longest} tokens: {len(row) + 2}")
        except ValueError as error:
            self.rejected.append(Rejected(line, str(error), text))
            return None
        self._rows.append(row)
        self._keys.append(digest(example.key))
        self._groups.append(digest(example.group))
        return example

    def encoded(self) -> Encoded:
        """What was taken so far."""
        return Encoded(
            alphabet=tuple(self._ids),
            tokens=np.array([i for row in self._rows for i in row], dtype=np.uint16),
            lengths=np.array([len(row) for row in self._rows], dtype=np.int64),
            member=np.array(self._keys, dtype=np.uint64),
            group=np.array(self._groups, dtype=np.uint64),
            mark=np.full(len(self._rows), self.writing.mark, dtype=np.uint8),
            rejected=tuple(self.rejected),
            counts=dict(self.counts),
        )


class _Sequences:
    """Proteins: letters as tokens, each its own group where none is given."""

    def __call__(self, text: str, group: str | None) -> Example:
        sequence = residues(text)
        return Example(sequence, sequence if group is None else group, list(sequence))


class _Molecules:
    """Molecules: canonical SMILES, group key and tokens of a record; a ValueError carries the reason to reject it."""

    def __init__(self, writing: Writing, counts: Counter[str]) -> None:
        from rdkit import rdBase

        from chemscale.data.selfies_writer import SelfiesWriter

        self.writing, self.counts = writing, counts
        self._selfies = SelfiesWriter()
        self._quiet = rdBase.BlockLogs()  # until the last record is read

    def __call__(self, text: str, group: str | None) -> Example:
        from rdkit import Chem

        writing = self.writing
        molecule = _molecule(_smiles_of(text) if writing.notation == "selfies" else text)
        if writing.form == "parent":
            molecule = self._parent(molecule)
        smiles = Chem.MolToSmiles(molecule)
        string = self._selfies(smiles) if writing.representation == "selfies" else smiles
        group = group_key(molecule, smiles) if group is None else group
        return Example(smiles, group, split_string(string, writing.representation))

    def _parent(self, molecule: object) -> object:
        from rdkit import Chem

        before = Chem.MolToSmiles(molecule)
        self.counts["other fragments"] += "." in before
        self.counts["stereochemistry"] += any(sign in before for sign in "@/\\")
        core = largest_fragment(molecule)
        self.counts["isotopes"] += any(atom.GetIsotope() for atom in core.GetAtoms())
        return plain(core)


def _molecule(smiles: str) -> object:
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(_why_not(smiles))
    if molecule.GetNumAtoms() == 0:
        raise ValueError("no atoms")
    return molecule


def _smiles_of(text: str) -> str:
    import selfies

    try:
        return str(selfies.decoder(text))
    except selfies.DecoderError as error:
        raise ValueError(f"not a SELFIES string: {' '.join(str(error).split())[:200]}") from error


def _why_not(text: str) -> str:
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(text, sanitize=False)
    if molecule is None:
        return "not a SMILES string"
    problems = Chem.DetectChemistryProblems(molecule)
    return f"impossible chemistry: {problems[0].Message()}" if problems else "impossible chemistry"


def _speller(vocabulary: Vocabulary | None) -> Callable[[Sequence[str]], Iterable[str]]:
    """From tokens to entries of the vocabulary; an unknown token stays whole, to be counted by its own name."""
    if vocabulary is None:
        return lambda tokens: tokens
    known: dict[str, tuple[str, ...]] = {}

    def spelled(tokens: Sequence[str]) -> Iterable[str]:
        for token in tokens:
            if token not in known:
                known[token] = vocabulary.spelled(token) or (token,)
            yield from known[token]

    return spelled
