"""Names of data sets: where each comes from, how to get it, and under what terms.

Package data lie beside this file in `embedded/`; what is fetched or built goes under `$CHEMSCALE_HOME`, by
default `~/.cache/chemscale`. A source that is no known name is the path of a file of the user's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from chemscale.data.files import TEXT_SUFFIXES
from chemscale.data.formats import STRUCTURE_SUFFIXES
from chemscale.data.staging import whole_file
from chemscale.home import home

MOSES_CITATION = (
    "Polykovskiy et al., Molecular Sets (MOSES): A Benchmarking Platform for Molecular Generation Models, "
    "Frontiers in Pharmacology 11:565644 (2020); molecules from the ZINC Clean Leads collection"
)
MOSES_LICENCE = "MIT (Copyright 2018 Insilico Medicine, Inc)"
MOSES_SHA256 = "7f4450e3ebecebe79c3a2a55950c93daddee071120daf64a163d03481e811d34"  # of the wheel that holds it
UNITS = {"text": "nats", "structures": "eV, angstrom, eV/angstrom"}


@dataclass(frozen=True)
class Source:
    """A data set that can be built.

    Attributes:
        name: what `Data.source` says: a known name, or a path.
        family: "text" or "structures".
        origin: where the examples come from.
        licence, citation, units: for reports.
        how: the command that makes it available.
        files: the split that each file fills (None: split by group) and the file itself.
        given: SHA-256 known beforehand, of what is fetched; None where it is taken of the file.
    """

    name: str
    family: str
    origin: str
    licence: str
    citation: str
    units: str
    how: str
    files: tuple[tuple[str | None, Path], ...]
    given: str | None = None

    @property
    def checksum(self) -> str:
        """SHA-256 of the bytes of the file, or over those of all files in order."""
        if self.given is not None:
            return self.given
        sums = [file_checksum(path) for _, path in self.files]
        return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()

    @property
    def available(self) -> bool:
        """Whether its files are on this machine."""
        return all(path.is_file() for _, path in self.files)


def embedded(name: str) -> Path:
    """Path of a file of the package data."""
    return Path(str(files("chemscale.data") / "embedded" / name))


def fetched(name: str) -> Path:
    """Folder of a fetched source."""
    return home() / "fetched" / name


def sources() -> dict[str, Source]:
    """The known names."""
    return {source.name: source for source in _known()}


def resolve(name: str) -> Source:
    """The source of a known name or of a path.

    Raises:
        ValueError: neither a known name nor a readable file of a known kind, or a known one whose
        files are not here.
    """
    known = sources()
    if name not in known:
        return user_file(name, tuple(known))
    source = known[name]
    if not source.available:
        raise ValueError(f"Data.source={name!r} is not on this machine; run `{source.how}` first.")
    return source


def file_checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, remembered by path, size and time of change."""
    stat = path.stat()
    key = hashlib.sha256(f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()[:32]
    note = home() / "checksums" / key
    if note.is_file():
        return note.read_text()
    with path.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    write_whole(note, found)
    return found


def write_whole(path: Path, text: str) -> None:
    """Write a small text file in one step, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as staged:
        staged.write_text(text)


def _known() -> Iterator[Source]:
    moses = ("text", "MOSES (ZINC Clean Leads, filtered)", MOSES_LICENCE, MOSES_CITATION, UNITS["text"])
    parts = tuple((split, embedded(f"moses-{split}.parquet")) for split in ("train", "valid", "test"))
    yield Source("moses", *moses, "chemscale data build moses", parts)
    whole = (("train", fetched("moses") / "train.csv.gz"), ("held-out", fetched("moses") / "test.csv.gz"))
    yield Source("moses-full", *moses, "chemscale data fetch moses", whole, given=MOSES_SHA256)
    yield Source(
        "fragments-gfn2",
        "structures",
        "fragments of MOSES molecules, displaced conformers, labelled with GFN2-xTB",
        MOSES_LICENCE,
        "labels: GFN2-xTB (Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15:1652, 2019) by tblite; molecules: "
        + MOSES_CITATION,
        UNITS["structures"],
        "chemscale data build fragments-gfn2",
        ((None, embedded("fragments-gfn2.parquet")),),
    )


def user_file(name: str, known: tuple[str, ...] = (), field: str = "Data.source") -> Source:
    """The source that a file or a folder of files makes; `known` names and `field` are for errors.

    Raises:
        ValueError: it is none that can be read.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _user_folder(name, path, field)
    if not path.is_file():
        names = f"neither a known name ({', '.join(known)}) nor" if known else "not"
        more = "" if known else "; records of the source itself are written as in '@-50:'"
        raise ValueError(f"{field}={name!r} is {names} a file on this machine{more}.")
    family = family_of(path, field)
    origin, how = f"file {path.name}", f"chemscale data build {name}"
    return Source(name, family, origin, "unknown", "", UNITS[family], how, ((None, path),))


def _user_folder(name: str, folder: Path, field: str) -> Source:
    """The files of structures in a folder, in the order of their names; they must be of one kind."""
    shown = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    files = sorted(path for path in shown if path.name.lower().endswith(STRUCTURE_SUFFIXES))
    kinds = sorted({path.suffix.lower() for path in files})
    if len(kinds) != 1:
        found = f"files of several kinds ({', '.join(kinds)})" if kinds else "no file of structures"
        allowed = ", ".join(STRUCTURE_SUFFIXES)
        raise ValueError(f"{field}={name!r} is a folder with {found}; give one with files of one of {allowed}.")
    origin, how = f"{len(files)} files of folder {folder.name}", f"chemscale data build {name}"
    of = tuple((None, path) for path in files)
    return Source(name, "structures", origin, "unknown", "", UNITS["structures"], how, of)


def family_of(path: Path, field: str) -> str:
    """ "text" or "structures", by the end of a file's name; `field` is for errors."""
    name = path.name.lower()
    if name.endswith(STRUCTURE_SUFFIXES):
        return "structures"
    if name.endswith(TEXT_SUFFIXES):
        return "text"
    if name.endswith(".parquet"):
        return "structures" if {"species", "positions"} <= _parquet_columns(path, field) else "text"
    allowed = ", ".join((*TEXT_SUFFIXES, ".parquet", *STRUCTURE_SUFFIXES))
    raise ValueError(f"{field}={str(path)!r} ends in {path.suffix!r}; files end in one of {allowed}.")


def _parquet_columns(path: Path, field: str) -> set[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{field}={str(path)!r} is not a Parquet file: {error}; give a whole one.") from error
