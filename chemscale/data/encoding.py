"""Lines of a file -> tokens, digests and rejections: the part of a build that runs in many processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chemscale.data.groups import group_key
from chemscale.data.readers import Line
from chemscale.data.store import Rejected
from chemscale.data.subsets import digest
from chemscale.data.tokens import split_string, write_string

BY_GROUP, HELD_OUT = 255, 254  # splits still open: any of the three, or valid and test only


@dataclass(frozen=True)
class Encoded:
    """Molecules as tokens, end to end.

    Attributes:
        alphabet: text of each local token id.
        tokens: (tokens,) uint16 local ids, without start and end.
        lengths: (molecules,) int64.
        member: (molecules,) uint64 digests of canonical SMILES.
        group: (molecules,) uint64 digests of group keys.
        split: (molecules,) uint8, an index into SPLITS or one of the open marks.
        rejected: records that are no molecule.
    """

    alphabet: tuple[str, ...]
    tokens: np.ndarray
    lengths: np.ndarray
    member: np.ndarray
    group: np.ndarray
    split: np.ndarray
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True)
class Task:
    """Lines for one process, and what to write molecules in."""

    representation: str
    lines: list[Line]


def encode_lines(task: Task) -> Encoded:
    """Encode lines of a file; the work of one process."""
    from rdkit import rdBase

    ids: dict[str, int] = {}
    rows: list[list[int]] = []
    members, groups, rejected = [], [], []
    with rdBase.BlockLogs():
        for line, text in task.lines:
            try:
                smiles, group, tokens = _encode(text, task.representation)
            except ValueError as error:
                rejected.append(Rejected(line, str(error), text))
                continue
            rows.append([ids.setdefault(token, len(ids)) for token in tokens])
            members.append(digest(smiles))
            groups.append(digest(group))
    return Encoded(
        alphabet=tuple(ids),
        tokens=np.fromiter((i for row in rows for i in row), dtype=np.uint16),
        lengths=np.array([len(row) for row in rows], dtype=np.int64),
        member=np.array(members, dtype=np.uint64),
        group=np.array(groups, dtype=np.uint64),
        split=np.full(len(rows), BY_GROUP, dtype=np.uint8),
        rejected=tuple(rejected),
    )


def joined(parts: Sequence[Encoded]) -> Encoded:
    """All parts end to end under one alphabet."""
    ids = {token: i for i, token in enumerate(dict.fromkeys(t for part in parts for t in part.alphabet))}
    tokens = [np.array([ids[t] for t in p.alphabet], dtype=np.uint16)[p.tokens] for p in parts if len(p.tokens)]
    return Encoded(
        alphabet=tuple(ids),
        tokens=_concatenated(tokens, np.uint16),
        lengths=_concatenated([p.lengths for p in parts], np.int64),
        member=_concatenated([p.member for p in parts], np.uint64),
        group=_concatenated([p.group for p in parts], np.uint64),
        split=_concatenated([p.split for p in parts], np.uint8),
    )


def _encode(text: str, representation: str) -> tuple[str, str, list[str]]:
    """Canonical SMILES, group key and tokens of one record; ValueError carries the reason to reject it."""
    from rdkit import Chem

    if not text:
        raise ValueError("empty line")
    molecule = Chem.MolFromSmiles(text)
    if molecule is None:
        raise ValueError(_why_not(text))
    if molecule.GetNumAtoms() == 0:
        raise ValueError("no atoms")
    smiles = Chem.MolToSmiles(molecule)
    tokens = split_string(write_string(smiles, representation), representation)
    return smiles, group_key(molecule), tokens


def _why_not(text: str) -> str:
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(text, sanitize=False)
    if molecule is None:
        return "not a SMILES string"
    problems = Chem.DetectChemistryProblems(molecule)
    return f"impossible chemistry: {problems[0].Message()}" if problems else "impossible chemistry"


def _concatenated(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)
