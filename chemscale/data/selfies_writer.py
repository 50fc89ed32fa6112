"""SMILES -> SELFIES in one pass over the string: what `selfies.encoder` returns, at a small part of its time.

A SELFIES string (Krenn et al. 2020, doi 10.1088/2632-2153/aba947; version 2: Lo et al. 2023, doi 10.1039/D3DD00044C)
lists the atoms of a SMILES string in the same order, so one pass can write it: an atom is a symbol, a closed branch or
ring is a symbol and its length. Only double bonds of aromatic systems wait until the end, when `selfies`' own matching
places them. What this pass does not read (stereochemistry, wildcards, shapes that RDKit does not write, molecules to be
refused) goes to `selfies.encoder` itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

import selfies
from selfies.bond_constraints import get_bonding_capacity
from selfies.grammar_rules import get_selfies_from_index
from selfies.mol_graph import MolecularGraph
from selfies.utils.matching_utils import find_perfect_matching
from selfies.utils.smiles_utils import atom_to_smiles, smiles_to_atom

_TOKEN = re.compile(r"[-=#]?(?:\[[^]]+]|Cl|Br|[BCNOPSFIbcnops]|\d|%\d\d)|\(|\)|.", re.DOTALL)
_ORDER = {"-": 1, "=": 2, "#": 3}
_PREFIX = ("", "", "=", "#")
_ATOM, _RING, _OPEN, _CLOSE = range(4)


class _OtherShapeError(Exception):
    """The string holds what the one pass does not read."""


@dataclass(slots=True)
class _Token:
    """What one token of a SMILES string stands for.

    Attributes:
        kind: an atom, a ring label, or a bracket of a branch.
        order: of the bond before it, 0 where none is written.
        text: the SELFIES symbol of an atom, or the label of a ring.
        capacity: bonds that the atom may have, its written hydrogens counted off.
        aromatic: the SMILES symbol of an aromatic atom, else empty.
    """

    kind: int
    order: int = 0
    text: str = ""
    capacity: int = 0
    aromatic: str = ""


class SelfiesWriter:
    """Writes SELFIES under the constraints that `selfies` has when the writer is made."""

    def __init__(self) -> None:
        self._tokens = {"(": _Token(_OPEN), ")": _Token(_CLOSE)}

    def __call__(self, smiles: str) -> str:
        """The SELFIES string of a SMILES string.

        Raises:
            ValueError: SELFIES cannot express the molecule, e.g. a valence above its limits.
        """
        try:
            return ".".join([self._written(part) for part in smiles.split(".")])
        except (_OtherShapeError, IndexError):
            pass
        try:
            return selfies.encoder(smiles)
        except selfies.EncoderError as error:
            raise ValueError(f"SELFIES cannot express it: {' '.join(str(error).split())[:200]}") from error

    def _written(self, smiles: str) -> str:
        line, known = _Line(), self._tokens
        write = (line.atom, line.ring, line.open, line.close)
        for symbol in _TOKEN.findall(smiles):
            token = known.get(symbol)
            if token is None:
                token = known[symbol] = _read(symbol)
            write[token.kind](token)
        return line.finished()


@dataclass(slots=True)
class _Line:
    """A SELFIES string while it is written.

    Attributes:
        out: a symbol each, or the symbol of a branch or ring together with those of its length.
        count: symbols so far.
        atoms, bonds: each atom, and the orders of its bonds added up, an aromatic bond counted as 1.
        here: the atom that the next bond starts from; -1 before the first one.
        branch: place in `out` of the branch that the next atom begins; -1 for none.
        closed: whether a branch was closed just now.
        open_branches: atom, place in `out`, symbols and atoms before each.
        open_rings: atom and bond order by label.
        links: aromatic neighbours of aromatic atoms, in the order of the string.
        places: places in `out` where the order of an aromatic bond is written.
    """

    out: list[str] = field(default_factory=list)
    count: int = 0
    atoms: list[_Token] = field(default_factory=list)
    bonds: list[int] = field(default_factory=list)
    here: int = -1
    branch: int = -1
    closed: bool = False
    open_branches: list[tuple[int, int, int, int]] = field(default_factory=list)
    open_rings: dict[str, tuple[int, int]] = field(default_factory=dict)
    links: dict[int, list[int]] = field(default_factory=dict)
    places: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    def atom(self, token: _Token) -> None:
        """An atom, bonded to the one before it."""
        atom, here, order = len(self.atoms), self.here, token.order
        if token.aromatic:
            self.links[atom] = []
        if here < 0:
            if order:
                raise _OtherShapeError
        else:
            if not order:
                order = 1
                if token.aromatic and self.atoms[here].aromatic:
                    place = len(self.out)
                    self._link(here, atom, (place,) if self.branch < 0 else (place, self.branch))
            self.bonds[here] += order
            if self.branch >= 0:
                self.out[self.branch] = _PREFIX[order]
                self.branch = -1
        self.atoms.append(token)
        self.bonds.append(order)
        self.out.append(token.text)
        self.count += 1
        self.here, self.closed = atom, False

    def ring(self, token: _Token) -> None:
        """A ring label: the first one of two is kept until the second one closes the ring."""
        here = self.here
        if self.closed or here < 0 or self.branch >= 0:
            raise _OtherShapeError
        start, order = self.open_rings.pop(token.text, (-1, 0))
        if start < 0:
            self.open_rings[token.text] = here, token.order
            return
        if order and token.order and order != token.order:
            raise _OtherShapeError
        order = order or token.order
        if not order:
            order = 1
            if self.atoms[here].aromatic and self.atoms[start].aromatic:
                self._link(start, here, (len(self.out),))
        self.bonds[start] += order
        self.bonds[here] += order
        symbols, length = _length(here - start - 1)
        self.out.append(f"[{_PREFIX[order]}Ring{symbols}]{length}")
        self.count += 1 + symbols

    def open(self, _: _Token) -> None:
        """A branch begins; its symbol is written when its length is known."""
        if self.here < 0 or self.branch >= 0:
            raise _OtherShapeError
        self.branch = len(self.out)
        self.open_branches.append((self.here, self.branch, self.count, len(self.atoms)))
        self.out.append("")
        self.closed = False

    def close(self, _: _Token) -> None:
        """A branch ends; `selfies` reads one that nothing follows as no branch, so that goes elsewhere."""
        self.here, place, before, first = self.open_branches.pop()
        if self.closed or first == len(self.atoms):
            raise _OtherShapeError
        symbols, length = _length(self.count - before - 1)
        self.out[place] = f"[{self.out[place]}Branch{symbols}]{length}"
        self.count += 1 + symbols
        self.closed = True

    def finished(self) -> str:
        """The string, with the double bonds of aromatic systems in it."""
        if self.closed or self.open_branches or self.open_rings or not self.atoms:
            raise _OtherShapeError
        if self.links:
            self._place_double_bonds()
        if any(order > atom.capacity for atom, order in zip(self.atoms, self.bonds, strict=True)):
            raise _OtherShapeError
        return "".join(self.out)

    def _link(self, a: int, b: int, places: tuple[int, ...]) -> None:
        self.links[a].append(b)
        self.links[b].append(a)
        self.places[a, b] = places

    def _place_double_bonds(self) -> None:
        atoms, bonds, links = self.atoms, self.bonds, self.links
        kept = [a for a, near in links.items() if _takes_part(atoms[a].aromatic, bonds[a], len(near))]
        label = {atom: i for i, atom in enumerate(kept)}
        mates = _matched(tuple([tuple([label[b] for b in links[a] if b in label]) for a in kept]))
        if mates is None:
            raise _OtherShapeError
        for i, j in enumerate(mates):
            if i < j:
                a, b = kept[i], kept[j]
                bonds[a] += 1
                bonds[b] += 1
                for place in self.places[a, b]:
                    self.out[place] = "[=" + self.out[place][1:]


@lru_cache(maxsize=1 << 16)  # 10^5 molecules of MOSES hold a few thousand different systems
def _matched(graph: tuple[tuple[int, ...], ...]) -> list[int] | None:
    return find_perfect_matching([list(near) for near in graph])


@lru_cache(maxsize=1 << 12)
def _takes_part(symbol: str, bonds: int, aromatic_bonds: int) -> bool:
    """Whether an aromatic atom has a double bond in its system, as `selfies` decides it."""
    graph = MolecularGraph()
    atom = smiles_to_atom(symbol)
    assert atom is not None  # it was read before
    graph.add_atom(atom)
    graph._bond_counts[0] = bonds + 0.5 * aromatic_bonds  # `selfies` counts an aromatic bond as 1.5
    graph._delocal_subgraph[0] = [0] * aromatic_bonds
    return not graph._prune_from_ds(0)


@lru_cache(maxsize=1 << 10)
def _length(number: int) -> tuple[int, str]:
    """How many symbols write a number, and these."""
    symbols = get_selfies_from_index(number)
    return len(symbols), "".join(symbols)


def _read(symbol: str) -> _Token:
    bond = symbol[0] if symbol[0] in _ORDER else ""
    core = symbol[len(bond) :]
    order = _ORDER.get(bond, 0)
    if core[:1] == "%" or core.isdigit():
        return _Token(_RING, order, core)
    atom = smiles_to_atom(core) if core else None
    if atom is None or atom.chirality is not None:
        raise _OtherShapeError
    aromatic = core if atom.is_aromatic else ""
    atom.is_aromatic = False
    text = f"[{_PREFIX[order]}{atom_to_smiles(atom, brackets=False)}]"
    capacity = get_bonding_capacity(atom.element, atom.charge) - (atom.h_count or 0)
    return _Token(_ATOM, order, text, capacity, aromatic)
