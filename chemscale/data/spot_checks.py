"""`chemscale data label FILE.parquet --method wb97x`: some structures of a labelled file labelled again by DFT.

The file that comes out holds both labels of each, told apart by the column `level`: `Reading(level="gfn2")` and
`Reading(level="wb97x/6-31g*")` read one or the other, with the same groups and so the same splits, and a study may take
many cheap labels and few dear ones.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chemscale.data.labelling import dft
from chemscale.data.labelling.conformers import derive_seed
from chemscale.data.labelling.disk import (
    EXTENDED,
    GFN2,
    Outcome,
    Structure,
    WorkFolder,
    from_table,
    read_metadata,
    to_table,
    write_table,
    write_text,
)
from chemscale.data.labelling.fragments import Candidate, Reject
from chemscale.data.labelling.noise import even_sample
from chemscale.data.labelling.reports import LabelReport, listed, listing_of
from chemscale.data.parallel import mapped, progress_bar


def spot_check(
    source: str | Path,
    out: str | Path,
    *,
    structures: int = 100,
    processes: int | None = 1,
    progress: bool | None = None,
) -> LabelReport:
    """Label `structures` of a labelled file again by wB97X/6-31G*, spread evenly over temperatures, into `out`.

    A run that was killed goes on when it is called again: a structure that is done is never done again. The metadata
    tell how far the two levels lie apart: forces, and energies after the mean difference of each composition's atoms.
    What did not converge is listed in `<out>.rejected.csv`, by its place among the chosen structures.
    Raises ValueError without pyscf, for a file that is not one of labels, or an `out` that belongs to another command.
    """
    began, source, out = time.monotonic(), Path(source), Path(out)
    listing = listing_of(out)
    if find_spec("pyscf") is None:
        raise ValueError(dft.MISSING)
    if structures < 1:
        raise ValueError(f"structures={structures} labels nothing; give 1 or more.")
    if not source.is_file():
        raise ValueError(f"source={source} is no file on this machine; give one that `chemscale data label` wrote.")
    facts = read_metadata(source)
    checksum = hashlib.sha256(source.read_bytes()).hexdigest()
    plan = {"source": checksum, "structures": structures, "level": dft.LEVEL, "version": dft.VERSION}
    if out.exists():
        if read_metadata(out).get("spot_check") != plan:
            raise ValueError(f"out={out} was made by another command; give another --out.")
        return LabelReport(out, listing, read_metadata(out), time.monotonic() - began)
    chosen = _chosen(source, structures)
    with WorkFolder(out, plan) as work:
        with progress_bar(len(chosen), "labelling by DFT", progress) as bar:
            missing = [i for i in range(len(chosen)) if not work.has(i)]
            bar.advance(len(chosen) - len(missing))
            for i, again in zip(missing, mapped(dft.relabelled, (chosen[i] for i in missing), processes), strict=True):
                work.keep(i, [_outcome(i, chosen[i], again)])
                bar.advance(1)
        outcomes = [work.load(i)[0] for i in range(len(chosen))]
        pairs = [(cheap, o.structures[0]) for cheap, o in zip(chosen, outcomes, strict=True) if o.structures]
        failed = [reject for o in outcomes for reject in o.rejects]
        write_text(listed(failed), listing, scratch=work.path)
        if not pairs:
            raise ValueError(f"not one structure of {source} converged; {listing} names them.")
        metadata = {**facts, "spot_check": plan, "levels": _levels(pairs, len(failed))}
        both = [s for pair in pairs for s in pair]
        write_table(to_table(both, metadata, EXTENDED), out, scratch=work.path, level=19)
        work.remove()
    return LabelReport(out, listing, metadata, time.monotonic() - began)


def _chosen(source: Path, count: int) -> list[Structure]:
    """An even sample over temperatures, in the order of the file; those of the cheap level only."""
    rows = [s for s in _rows(source) if s.level == GFN2]
    order = [derive_seed("noise", s.smiles, s.conformer) for s in rows]
    return [rows[i] for i in sorted(even_sample([s.temperature for s in rows], order, min(count, len(rows))))]


def _rows(source: Path) -> Iterator[Structure]:
    for batch in pq.ParquetFile(source).iter_batches(batch_size=1024):
        yield from from_table(pa.Table.from_batches([batch]))


def _outcome(index: int, cheap: Structure, again: Structure | str) -> Outcome:
    candidate = Candidate(cheap.smiles, index + 1)
    if isinstance(again, str):
        return Outcome(candidate, (), (Reject(index + 1, cheap.smiles, again),))
    return Outcome(candidate, (again,), ())


def _levels(pairs: list[tuple[Structure, Structure]], failed: int) -> dict[str, Any]:
    """How far the cheap labels lie from the dear ones."""
    numbers = sorted({z for cheap, _ in pairs for z in cheap.species.tolist()})
    counts = np.array([[np.sum(cheap.species == z) for z in numbers] for cheap, _ in pairs], dtype=float)
    apart = np.array([dear.energy - cheap.energy for cheap, dear in pairs])
    left = (apart - counts @ np.linalg.lstsq(counts, apart, rcond=None)[0]) / counts.sum(1)
    forces = np.concatenate([(dear.forces - cheap.forces).ravel() for cheap, dear in pairs])
    return {
        "method": f"{dft.LEVEL} by pyscf {version('pyscf')}",
        "version": dft.VERSION,
        "structures": len(pairs),
        "not_converged": failed,
        "force_rmse": float(np.sqrt(np.mean(forces.astype(np.float64) ** 2))),
        "force_mae": float(np.abs(forces).mean()),
        "energy_rmse_after_composition": float(np.sqrt(np.mean(left**2))),
    }
