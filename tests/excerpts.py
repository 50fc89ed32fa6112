"""A few real molecules and structures, cut from those that ship with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pyarrow.parquet as pq

EMBEDDED = Path(str(files("chemscale"))) / "data" / "embedded"


def few_molecules(folder: Path) -> str:
    """Path of 400 real molecules as SMILES, written into `folder`."""
    table = pq.read_table(EMBEDDED / "moses-train.parquet")
    path = folder / "few.smi"
    path.write_text("\n".join(table["smiles"].to_pylist()[::250]) + "\n")
    return str(path)


def few_structures(folder: Path) -> str:
    """Path of 480 real structures of 120 molecules, labelled with GFN2-xTB, written into `folder`."""
    table = pq.read_table(EMBEDDED / "fragments-gfn2.parquet")
    names = table["smiles"].to_pylist()
    keep = set(list(dict.fromkeys(names))[:: max(1, len(set(names)) // 120)][:120])
    path = folder / "few.parquet"
    pq.write_table(table.take([i for i, name in enumerate(names) if name in keep]), path)
    return str(path)
