"""HDF5 files, which need a package that is imported once one is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def opened(path: Path) -> Any:
    """The file, to be read in a `with`."""
    import h5py

    return h5py.File(path, "r")
