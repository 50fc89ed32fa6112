"""Kinds of files of structures, one small file each, and which kind a file is."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chemscale.data.formats.format import Format

_BY_SUFFIX = {  # module and name of the format; HDF5 and npz are told apart by what is in them
    ".extxyz": ("extxyz", "EXTXYZ"),
    ".xyz": ("extxyz", "EXTXYZ"),
    ".parquet": ("table", "TABLE"),
    ".db": ("ase_db", "ASE_DB"),
    ".aselmdb": ("aselmdb", "ASELMDB"),
}
_SNIFFED = {
    ".h5": ("layouts", "HDF5"),
    ".hdf5": ("layouts", "HDF5"),
    ".npz": ("npz", "an npz archive"),
}
STRUCTURE_SUFFIXES = tuple(name for name in (*_BY_SUFFIX, *_SNIFFED) if name != ".parquet")


def format_of(path: Path) -> Format:
    """The format of a file, by the end of its name and what is in it.

    Raises:
        ValueError: no format fits, or the file is damaged; the message says what was found and what is known.
    """
    from chemscale.data.formats.format import whole

    suffix = path.suffix.lower()
    if suffix in _BY_SUFFIX:
        module, name = _BY_SUFFIX[suffix]
        return getattr(import_module(f"{__name__}.{module}"), name)
    if suffix in _SNIFFED:
        module, kind = _SNIFFED[suffix]
        with whole(path, kind):
            return import_module(f"{__name__}.{module}").format_of(path)
    known = ", ".join((*_BY_SUFFIX, *_SNIFFED))
    raise ValueError(f"Data.source={str(path)!r} ends in {path.suffix!r}; files of structures end in one of {known}.")
