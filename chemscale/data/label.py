"""`chemscale data label`: molecules -> conformers -> GFN2-xTB energies and forces, one command, one file.

How it is done stands in `labelling`; here is what it is asked, what it says, and what the file tells about
itself.
"""

import csv
import hashlib
import io
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from chemscale.data.labelling import gfn2
from chemscale.data.labelling.disk import (
    Structure,
    WorkFolder,
    from_table,
    read_metadata,
    to_table,
    write_table,
    write_text,
)
from chemscale.data.labelling.fragments import ELEMENTS, Reject, Tally, read_smiles
from chemscale.data.labelling.metadata import describe
from chemscale.data.labelling.noise import measure_noise, number_to_label_again
from chemscale.data.labelling.run import Plan, label_all
from chemscale.data.parallel import progress_bar


@dataclass(frozen=True)
class LabelReport:
    """What `label` made: the file, the list of what was left out, the metadata, and how long it took."""

    out: Path
    rejected: Path
    metadata: dict[str, Any]
    seconds: float


def label(
    source: str | Path | Iterable[str],
    out: str | Path,
    *,
    fragments: bool = False,
    max_atoms: int = 25,
    molecules: int | None = None,
    conformers: int = 4,
    temperatures: Sequence[float] = (100.0, 300.0, 600.0, 1000.0),
    seed: int = 0,
    processes: int = 1,
    elements: Sequence[str] = ELEMENTS,
    noise: int = 500,
    progress: bool | None = None,
) -> LabelReport:
    """Label the molecules of `source` with GFN2-xTB and write them to the Parquet file `out`.

    source: a file of SMILES (`labelling.fragments.read_smiles`) or an iterable of them. fragments: take
    BRICS pieces, ends capped by hydrogen, instead of the molecules. max_atoms counts hydrogens. molecules:
    how many to take, in order of appearance; None takes all. temperatures (K): conformer k is displaced at
    the k-th, in turn. noise: how many structures at least (and 1 in 20) are labelled again to measure the
    labels' noise floor; 0 measures nothing.

    Neutral closed shells only. Rows follow `labelling.disk.SCHEMA`; a molecule is there with all
    `conformers` or not at all. Whatever was left out is listed in `<out>.rejected.csv`. A run that was
    killed goes on when it is called again; a finished one is not done again. progress: as in
    `parallel.progress_bar`.

    Raises ValueError for a wrong value, a source without one good record, missing tblite, or an `out` or
    its work folder that belong to another command; RuntimeError when a worker was killed (call again to go
    on).
    """
    began = time.monotonic()
    out = Path(out)
    if find_spec("tblite") is None:
        raise ValueError(gfn2.MISSING)
    if processes < 1:
        raise ValueError(f"processes={processes} does no work; give 1 or more, at best one per core.")
    records, name, checksum = _open(source)
    plan = Plan(
        source=name,
        source_sha256=checksum,
        fragments=fragments,
        max_atoms=max_atoms,
        molecules=molecules,
        conformers=conformers,
        temperatures=[float(t) for t in temperatures],
        elements=list(elements),
        seed=seed,
        noise=noise,
        versions=_versions(),
    )
    rejected = out.with_name(out.name + ".rejected.csv")
    if out.exists():
        return LabelReport(out, rejected, _finished(out, plan), time.monotonic() - began)
    with WorkFolder(out, asdict(plan)) as work:
        with progress_bar(molecules, "labelling molecules", progress) as bar:
            outcomes, tally = label_all(records, plan, work, processes, bar)
        structures = [s for outcome in outcomes for s in outcome.structures]
        rejects = sorted([*tally.rejects, *(r for o in outcomes for r in o.rejects)], key=lambda r: r.line)
        write_text(_listing(rejects), rejected, scratch=work.path)
        if not structures:
            work.remove()
            raise ValueError(_nothing(name, tally, rejects, rejected))
        floor = _measured(structures, noise, processes, progress) if noise else {}
        metadata = describe(plan, out, structures, tally, rejects, floor)
        write_table(to_table(structures, metadata), out, scratch=work.path, level=19)
        work.remove()
    return LabelReport(out, rejected, metadata, time.monotonic() - began)


def label_noise(
    path: str | Path, *, structures: int = 500, processes: int = 1, progress: bool | None = None
) -> dict[str, Any]:
    """The noise floor of a labelled file: `structures` of it (1 in 20 at least) labelled again, far tighter.

    "sample": spread evenly over temperatures, the floor of an average error; "most_distorted": those with
    the largest forces. Each a `labelling.noise.NoiseFloor` as a dict. Raises ValueError for a file that is
    not one of labels.
    """
    read_metadata(Path(path))
    return _measured(from_table(pq.read_table(path)), structures, processes, progress)


def _measured(structures: list[Structure], count: int, processes: int, progress: bool | None) -> dict[str, Any]:
    total = number_to_label_again(len(structures), count)
    with progress_bar(total, "measuring label noise", progress) as bar:
        return measure_noise(structures, count, processes, bar)


def _open(source: str | Path | Iterable[str]) -> tuple[Iterable[tuple[int, str]], str, str]:
    """Records, name and SHA-256 of a source."""
    if isinstance(source, str | Path):
        records = read_smiles(source)
        with open(source, "rb") as file:
            return records, Path(source).name, hashlib.file_digest(file, "sha256").hexdigest()
    lines = list(source)
    return list(enumerate(lines, 1)), "SMILES_FILE", hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("tblite", "rdkit", "numpy")}


def _finished(out: Path, plan: Plan) -> dict[str, Any]:
    metadata = read_metadata(out)
    if metadata.get("plan") != plan.id:
        raise ValueError(f"out={out} was made by another command ({metadata.get('command')}); give another --out.")
    shutil.rmtree(WorkFolder(out, {}).path, ignore_errors=True)  # left by a run killed after its last rename
    return metadata


def _nothing(name: str, tally: Tally, rejects: list[Reject], listing: Path) -> str:
    reasons = Counter(r.reason for r in rejects) + tally.skipped
    found = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3)) or "it is empty"
    return f"source={name} has not one molecule to label in {tally.lines} lines: {found}; see {listing}."


def _listing(rejects: list[Reject]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["line", "smiles", "reason", "detail"])
    table.writerows([r.line, r.smiles, r.reason, r.detail] for r in rejects)
    return text.getvalue()
