"""`chemscale data label`: molecules -> conformers -> GFN2-xTB energies and forces, one command, one file.

How it is done stands in `labelling`; here is what it is asked, what it says, and what the file tells about
itself.
"""

import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chemscale.data.labelling import gfn2
from chemscale.data.labelling.disk import (
    EXTENDED,
    SCHEMA,
    Outcome,
    Structure,
    WorkFolder,
    from_table,
    read_metadata,
    to_table,
    with_facts,
    write_tables,
    write_text,
)
from chemscale.data.labelling.fragments import ELEMENTS, Reject, Tally, read_smiles
from chemscale.data.labelling.metadata import Contents, describe
from chemscale.data.labelling.noise import measure_noise, number_to_label_again
from chemscale.data.labelling.reports import LabelReport, listed, listing_of
from chemscale.data.labelling.run import Plan, label_all
from chemscale.data.parallel import in_chunks, progress_bar

ROW_GROUP = 4096  # structures that are written, and so read, together: some MB


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
    processes: int | None = 1,
    elements: Sequence[str] = ELEMENTS,
    noise: int = 500,
    states: str = "neutral",
    charges: Sequence[float] = (0,),
    sampling: str = "springs",
    per_shape: int = 1,
    progress: bool | None = None,
) -> LabelReport:
    """Label the molecules of `source` with GFN2-xTB and write them to the Parquet file `out`.

    source: a file of SMILES (`labelling.fragments.read_smiles`) or an iterable of them. fragments: take
    BRICS pieces, ends capped by hydrogen, instead of the molecules. max_atoms counts hydrogens. molecules:
    how many to take, in order of appearance; None takes all. temperatures (K): conformer k is displaced at
    the k-th, in turn. noise: how many structures at least (and 1 in 20) are labelled again to measure the
    labels' noise floor; 0 measures nothing. states: "neutral" takes neutral closed shells only, "any" ions and radicals
    as they are written. charges: what is added to a molecule's own charge, the next one each time that all temperatures
    have had their turn (so that `conformers` must be enough for all): (0, 1, -1) labels cations and anions too, of as
    few unpaired electrons as there can be.
    sampling: "springs", displacements of a conformer as by heat in a network of springs; "modes", the same along the
    normal modes of GFN2-xTB at its own minimum; or "md", Langevin dynamics on GFN2-xTB (`labelling.sampling`).
    per_shape: structures that come from one conformer; 10 and more label nearly as fast as tblite alone, by springs.
    processes: None takes the Ray cluster that this process is connected to.

    A file of neutral closed shells has the columns of `labelling.disk.SCHEMA`, others those of `EXTENDED`. Rows
    follow the source; a molecule is there with all `conformers` or not at all. Whatever was left out is listed in
    `<out>.rejected.csv`. A run that was killed goes on when it is called again; a finished one is not done again.
    progress: as in `parallel.progress_bar`.

    Raises ValueError for a wrong value, a source without one good record, missing tblite, or an `out` or
    its work folder that belong to another command; RuntimeError when a worker was killed (call again to go
    on).
    """
    began = time.monotonic()
    out = Path(out)
    if find_spec("tblite") is None:
        raise ValueError(gfn2.MISSING)
    if processes is not None and processes < 1:
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
        states=states,
        charges=[_whole(c) for c in charges],
        sampling=sampling,
        per_shape=per_shape,
    )
    rejected = listing_of(out)
    if out.exists():
        return LabelReport(out, rejected, _finished(out, plan), time.monotonic() - began)
    with WorkFolder(out, plan.facts) as work:
        with progress_bar(molecules, "labelling molecules", progress) as bar:
            found = label_all(records, plan, work, processes, bar)
        metadata = _gathered(plan, name, out, rejected, work, found, processes, progress)
        work.remove()
    return LabelReport(out, rejected, metadata, time.monotonic() - began)


def _gathered(
    plan: Plan,
    name: str,
    out: Path,
    listing: Path,
    work: WorkFolder,
    found: tuple[int, int, Tally],
    processes: int | None,
    progress: bool | None,
) -> dict[str, Any]:
    """Parts -> the file and the list of what was left out, a part in memory at a time."""
    count, last, tally = found

    def outcomes() -> Iterator[Outcome]:
        for index in range(count):
            yield from work.load(index)[: last if index == count - 1 else None]

    contents, rejects = Contents(), list(tally.rejects)
    for outcome in outcomes():
        contents.add(outcome.structures)
        rejects += outcome.rejects
    rejects.sort(key=lambda r: r.line)
    write_text(listed(rejects), listing, scratch=work.path)
    if not contents.structures:
        work.remove()
        raise ValueError(_nothing(name, tally, rejects, listing))

    def structures() -> Iterator[Structure]:
        return (s for outcome in outcomes() for s in outcome.structures)

    floor = _measured(structures, contents.structures, plan.noise, processes, progress) if plan.noise else {}
    metadata = describe(plan, out, contents, tally, Counter(r.reason for r in rejects), floor)
    schema = EXTENDED if plan.extended else SCHEMA
    tables = (to_table(rows, metadata, schema) for rows in in_chunks(structures(), ROW_GROUP))
    write_tables(tables, with_facts(schema, metadata), out, scratch=work.path, level=19)
    return metadata


def label_noise(
    path: str | Path, *, structures: int = 500, processes: int = 1, progress: bool | None = None
) -> dict[str, Any]:
    """The noise floor of a labelled file: `structures` of it (1 in 20 at least) labelled again, far tighter.

    "sample": spread evenly over temperatures, the floor of an average error; "most_distorted": those with
    the largest forces. Each a `labelling.noise.NoiseFloor` as a dict. Raises ValueError for a file that is
    not one of labels.
    """
    read_metadata(Path(path))
    file = pq.ParquetFile(path)

    def again() -> Iterator[Structure]:
        for batch in file.iter_batches(batch_size=1024):
            yield from from_table(pa.Table.from_batches([batch]))

    return _measured(again, file.metadata.num_rows, structures, processes, progress)


def _measured(
    structures: Callable[[], Iterator[Structure]], held: int, count: int, processes: int | None, progress: bool | None
) -> dict[str, Any]:
    total = number_to_label_again(held, count)
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


def _whole(charge: float) -> int:
    if not float(charge).is_integer():
        raise ValueError(f"charges={charge:g} is no whole number; give whole ones of -2 to 2, such as 0,1,-1.")
    return int(charge)


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
