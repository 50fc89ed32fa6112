"""What every kind of file of structures has to answer: which runs of records it holds, and what each record is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from chemscale.data.frames import Record, UnusableError
from chemscale.data.groups import group_key_of_smiles
from chemscale.spec import Reading

CHUNK = 1000  # records that are read together, by one process: seconds of work, some MB
_OF_STRINGS = ("column", "notation", "form", "vocabulary", "longest")  # of a reading: what structures have no use for
_OF_SOME_KINDS = ("energy", "forces", "groups", "level")
_HELD = {"groups": "the names of molecules", "energy": "the energies", "forces": "the forces"}
GROUP_KEYS = ("group", "smiles", "mol_id")  # what may name a structure's molecule, the first one found
CHARGE_KEYS = ("charge", "total_charge")
MULTIPLICITY_KEYS = ("multiplicity", "spin_multiplicity")


@dataclass(frozen=True)
class Chunk:
    """Some consecutive records of a file: how many, and where, in terms of its format."""

    records: int
    where: Any


@dataclass(frozen=True)
class Format:
    """A kind of file of structures.

    Attributes:
        name: for people.
        units: of energy, length and, where it is no quotient of the two, force (`units.units_of`); None where the
            layout does not say, and a user has to.
        source: where the layout and the units are published.
        finds: the records of a file as runs of at most `CHUNK`, without reading them; in an order that never changes.
        reads: the records of one run, a `Record` or the reason against it for each.
        heeds: fields of a reading that this kind of file has an answer to, beside those of all kinds.
    """

    name: str
    units: str | None
    source: str
    finds: Callable[[Path, Reading], Iterator[Chunk]]
    reads: Callable[[Path, Any, Reading], Iterator[Record | UnusableError]]
    heeds: tuple[str, ...] = ("energy", "forces")

    def chunks(self, path: Path, reading: Reading) -> Iterator[Chunk]:
        """What `finds` gives.

        Raises:
            UnreadableError: the file is damaged, or of another layout.
        """
        with whole(path, self.name):
            yield from self.finds(path, reading)

    def records(self, path: Path, where: Any, reading: Reading) -> Iterator[Record | UnusableError]:
        """What `reads` gives.

        Raises:
            UnreadableError: the file is damaged, or of another layout.
        """
        with whole(path, self.name):
            yield from self.reads(path, where, reading)

    def require_heeded(self, reading: Reading) -> None:
        """Refuse what a reading asks for and this kind of file cannot answer.

        Raises:
            ValueError: names the field.
        """
        for name in (*_OF_STRINGS, *_OF_SOME_KINDS):
            asked = getattr(reading, name)
            if name not in self.heeds and asked != getattr(Reading(), name):
                raise ValueError(
                    f"Reading.{name}={asked!r} says nothing about structures of this kind ({self.name}), which heed "
                    f"{', '.join((*self.heeds, 'units', 'isolated'))}; leave it out."
                )


class UnreadableError(ValueError):
    """One sentence about a file that is not what its name says, or damaged."""


@contextmanager
def whole(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library raises over a foreign or damaged file into one sentence that names the file."""
    try:
        yield
    except UnreadableError:
        raise
    except Exception as error:  # readers raise what they like: OSError, KeyError, IndexError, errors of their own
        raise damaged(path, kind, error) from error


def require_found(reading: Reading, found: Mapping[str, int], where: str) -> None:
    """Refuse a key that a reading names and no record has.

    Args:
        found: field of the reading ("groups", "energy", "forces") -> how many records have it.
        where: the file, for people.

    Raises:
        ValueError: names the field.
    """
    for name, count in found.items():
        if getattr(reading, name) is not None and not count:
            raise ValueError(
                f"Reading.{name}={getattr(reading, name)!r} is in no record of {where!r}; give the key that holds "
                f"{_HELD[name]}, or leave it out."
            )


def group_of(info: Any, asked: str | None) -> str | None:
    """The key of a record's molecule: under the key that was asked for, or the first of `GROUP_KEYS` found."""
    names = GROUP_KEYS if asked is None else (asked,)
    name = next((name for name in names if info.get(name) is not None), None)
    if name is None:
        return None
    return group_key_of_smiles(str(info[name])) if name == "smiles" else f"{name}:{info[name]}"


def spin_of(info: Any) -> Any:
    """Unpaired electrons of a record that says them, or its multiplicity, which is one more."""
    if info.get("spin") is not None:
        return info["spin"]
    found = first(*(info.get(name) for name in MULTIPLICITY_KEYS))
    return found - 1 if isinstance(found, Real) else found  # what is no number is told as such


def charge_of(info: Any) -> Any:
    """The charge of a record that says one."""
    return first(*(info.get(name) for name in CHARGE_KEYS))


def first(*candidates: Any) -> Any:
    """The first of them that is not None."""
    return next((c for c in candidates if c is not None), None)


def runs(count: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """(start, stop) of runs of at most `size` within `count` records."""
    return ((start, min(start + size, count)) for start in range(0, count, size))


def damaged(path: Path, kind: str, error: BaseException) -> UnreadableError:
    """One sentence about a file that cannot be read to its end."""
    why = " ".join(str(error).split()).rstrip(".")
    if not why or isinstance(error, LookupError | TypeError | AttributeError):
        why = f"{type(error).__name__} {why}".rstrip()  # such texts say little alone
    return UnreadableError(f"{str(path)!r} cannot be read as {kind}: {why}; give a whole file of that kind.")


def lacking(path: Path, option: str, name: str, known: Sequence[str]) -> UnreadableError:
    """One sentence about a name that a file does not know."""
    there = ", ".join(sorted(map(str, known))[:12]) or "nothing"
    return UnreadableError(f"Reading.{option}={name!r} is not in {path.name}, which has {there}; give one of these.")
