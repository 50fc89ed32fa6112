"""Which of the published layouts of structures an HDF5 file has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chemscale.data.formats import ani1x, qm7x, spice
from chemscale.data.formats.format import Format, UnreadableError
from chemscale.data.formats.hdf5 import opened


def format_of(path: Path) -> Format:
    """ANI-1x, SPICE or QM7-X, by the names in the file's first groups.

    Raises:
        UnreadableError: it has none of these layouts.
    """
    with opened(path) as file:
        names = _names(file)
    for needed, form in (
        ({"conformations", "atomic_numbers"}, spice.SPICE),
        ({"coordinates", "atomic_numbers"}, ani1x.ANI1X),
        ({"atXYZ", "atNUM"}, qm7x.QM7X),
    ):
        if needed <= names:
            return form
    found = ", ".join(sorted(names)[:8]) or "nothing"
    raise UnreadableError(
        f"Data.source={str(path)!r} is HDF5 of an unknown layout: its first groups hold {found}; known are ANI-1x "
        "(coordinates, atomic_numbers), SPICE (conformations, atomic_numbers) and QM7-X (atXYZ, atNUM); write others "
        "as extended XYZ."
    )


def _names(file: Any) -> set[str]:
    """Names of the data sets in the first groups, looked for two groups deep; empty groups are passed over."""
    found: set[str] = set()
    for name in list(file)[:20]:
        node = file[name]
        inner = [] if not hasattr(node, "keys") else list(node)[:20]
        for key in inner:
            child = node[key]
            found.update(list(child) if hasattr(child, "keys") else [key])
    return found
