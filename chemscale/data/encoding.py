"""Records of a file -> tokens, digests and rejections: the part of a build that runs in many processes."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from chemscale.data.fasta import residues
from chemscale.data.groups import group_key, largest_fragment, plain
from chemscale.data.readers import Record
from chemscale.data.splits import LABELLED, mark_of_label
from chemscale.data.store import Rejected
from chemscale.data.subsets import digest
from chemscale.data.tokens import require_plain, split_string
from chemscale.data.vocabulary import Vocabulary

_BATCH = 64  # records of one step
_STEREO_OR_HYDROGEN = re.compile(r"[@/\\]|\[\d*H")  # stereochemistry, or a hydrogen atom of its own


@dataclass(frozen=True)
class Encoded:
    """Strings as tokens, end to end.

    Attributes:
        alphabet: text of each local token id; a vocabulary's entries, and whole tokens that it does not know.
        tokens: (tokens,) uint16 local ids, without start and end.
        lengths: (examples,) int64.
        member: (examples,) uint64 digests of canonical SMILES or sequences.
        group: (examples,) uint64 digests of group keys.
        mark: (examples,) uint8, an index into SPLITS or one of the open marks of `splits`.
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
        splits: the name under which records say their split, for the reason where one does not.
    """

    representation: str
    notation: str
    form: str = "written"
    vocabulary: Vocabulary | None = None
    longest: int | None = None
    splits: str | None = None


@dataclass(frozen=True)
class Task:
    """Records for one process, and the mark of each (`splits`); `number` is the place of their part in the build."""

    number: int
    writing: Writing
    records: list[Record]
    marks: list[int]


class Example(NamedTuple):
    """One record that can be used: what tells duplicates, what decides the split, and its tokens."""

    key: str
    group: str
    tokens: list[str]


class Reason(str):
    """Why a record is rejected, in the place of the value that it did not give."""


def encode(task: Task) -> tuple[int, Encoded]:
    """Encode records; the work of one process."""
    collected = Collected(task.writing)
    for _ in collected.take(task.records, task.marks):
        pass
    return task.number, collected.encoded()


class Collected:
    """Records taken one after the other, each an example or a rejection."""

    def __init__(self, writing: Writing) -> None:
        self.writing = writing
        self.counts: Counter[str] = Counter()
        self.rejected: list[Rejected] = []
        self._read = _sequences if writing.representation == "protein" else _Molecules(writing, self.counts)
        self._spelled = _speller(writing.vocabulary)
        self._ids: dict[str, int] = {}
        self._tokens = array("H")  # flat: lists of lists would be walked by every garbage collection
        self._lengths = array("q")
        self._keys, self._groups, self._marks = array("Q"), array("Q"), array("B")

    def take(self, records: Sequence[Record], marks: Sequence[int]) -> Iterator[Example]:
        """Take records with their marks; yields those that are examples."""
        for start in range(0, len(records), _BATCH):
            some, batch = records[start : start + _BATCH], slice(start, start + _BATCH)
            for (line, text, _, split), mark, example in zip(some, marks[batch], self._read(some), strict=True):
                reason = example if isinstance(example, Reason) else self._put(example, mark, split)
                if reason is not None:
                    self.rejected.append(Rejected(line, reason, text))
                elif not isinstance(example, Reason):
                    yield example

    def encoded(self) -> Encoded:
        """What was taken so far."""
        return Encoded(
            alphabet=tuple(self._ids),
            tokens=np.array(self._tokens, dtype=np.uint16),
            lengths=np.array(self._lengths, dtype=np.int64),
            member=np.array(self._keys, dtype=np.uint64),
            group=np.array(self._groups, dtype=np.uint64),
            mark=np.array(self._marks, dtype=np.uint8),
            rejected=tuple(self.rejected),
            counts=dict(self.counts),
        )

    def _put(self, example: Example, mark: int, split: str | None) -> str | None:
        """Keep an example; the reason, where it is not to be kept."""
        if mark == LABELLED:
            try:
                mark = mark_of_label(split, self.writing.splits)
            except ValueError as error:
                return str(error)
        ids = self._ids
        row = [ids.setdefault(token, len(ids)) for token in self._spelled(example.tokens)]
        if self.writing.longest is not None and len(row) + 2 > self.writing.longest:
            return f"longer than {self.writing.longest} tokens: {len(row) + 2}"
        self._tokens.extend(row)
        self._lengths.append(len(row))
        self._keys.append(digest(example.key))
        self._groups.append(digest(example.group))
        self._marks.append(mark)
        return None


def _sequences(records: Sequence[Record]) -> list[Example | Reason]:
    """Proteins: letters as tokens, each its own group where none is given."""
    groups = [group for _, _, group, _ in records]
    read = _tried(residues, [text for _, text, *_ in records])
    return [s if isinstance(s, Reason) else Example(s, g or s, list(s)) for s, g in zip(read, groups, strict=True)]


class _Molecules:
    """Molecules: canonical SMILES, group key and tokens of each record, or the reason to reject it.

    Each step runs over all records before the next one begins: its code then stays in the processor's cache, which
    takes a quarter off the time of going molecule by molecule.
    """

    def __init__(self, writing: Writing, counts: Counter[str]) -> None:
        from rdkit import Chem, rdBase

        from chemscale.data.selfies_writer import SelfiesWriter

        self.writing, self.counts = writing, counts
        self._chem = Chem
        self._quiet = rdBase.BlockLogs()  # until the last record is read
        self._string = SelfiesWriter() if writing.representation == "selfies" else str

    def __call__(self, records: Sequence[Record]) -> list[Example | Reason]:
        molecules = _tried(self._molecule, [text for _, text, *_ in records])
        if self.writing.form == "parent":
            molecules = _tried(self._parent, molecules)
        smiles = _tried(self._chem.MolToSmiles, molecules)
        keys = [
            group or (m if isinstance(m, Reason) else group_key(m, s))
            for m, s, (_, _, group, _) in zip(molecules, smiles, records, strict=True)
        ]
        tokens = _tried(self._split, _tried(self._string, smiles))
        return [t if isinstance(t, Reason) else Example(s, k, t) for s, k, t in zip(smiles, keys, tokens, strict=True)]

    def _split(self, string: str) -> list[str]:
        return split_string(string, self.writing.representation)

    def _molecule(self, text: str) -> Any:
        if not text:
            raise ValueError("empty line")
        require_plain(text)
        chem, smiles = self._chem, _smiles_of(text) if self.writing.notation == "selfies" else text
        if _STEREO_OR_HYDROGEN.search(smiles):
            molecule = chem.MolFromSmiles(smiles)
        else:  # the same molecule without a search for stereochemistry and hydrogens, a fifth of the time
            molecule = chem.MolFromSmiles(smiles, sanitize=False)
            if molecule is not None and chem.SanitizeMol(molecule, catchErrors=True):
                molecule = None
        if molecule is None:
            raise ValueError(_why_not(smiles))
        if molecule.GetNumAtoms() == 0:
            raise ValueError("no atoms")
        return molecule

    def _parent(self, molecule: Any) -> Any:
        before = self._chem.MolToSmiles(molecule)
        self.counts["other fragments"] += "." in before
        self.counts["stereochemistry"] += any(sign in before for sign in "@/\\")
        core = largest_fragment(molecule)
        self.counts["isotopes"] += any(atom.GetIsotope() for atom in core.GetAtoms())
        return plain(core)


def _tried(function: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    """`function` of each value; a reason stays one, and a ValueError becomes one."""
    made = []
    for value in values:
        try:
            made.append(value if type(value) is Reason else function(value))
        except ValueError as error:
            made.append(Reason(error))
    return made


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
