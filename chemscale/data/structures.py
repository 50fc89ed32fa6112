"""Labelled structures of files -> positions, species, labels, cells, charges and spins on disk, memory-mapped.

Files are read in runs of records by several processes, each run becomes a part on disk, and parts become the arrays
(`assembling`): memory does not grow with the data, and a build that is killed goes on with the runs that are missing.
Reference energies and the scale of forces come from the whole training split, never from a subset, so that losses
compare across sizes of data. Structures of one molecule share a group and so a split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.batch import AtomicManifest, Manifest
from chemscale.data import parallel
from chemscale.data.assembling import Assembled, Assembler
from chemscale.data.formats import format_of
from chemscale.data.formats.format import CHUNK, Format, require_found
from chemscale.data.formats.table import facts_of, labels_of
from chemscale.data.frame_parts import FrameParts, Task, read_task
from chemscale.data.frames import UnusableError, checked
from chemscale.data.parts import claimed, discard
from chemscale.data.sources import Source
from chemscale.data.splits import LEFT_OUT, Marking, markings, told
from chemscale.data.store import BUILDER, MANIFEST_FILE, Rejected, complete, counted, read_manifest, staged
from chemscale.data.subsets import SPLITS
from chemscale.data.units import units_of
from chemscale.home import home
from chemscale.spec import Reading

_NOT_GROUPED = "no group, smiles or mol_id: each distinct structure is a group of its own"
_GROUPED = "by molecule, as named in the file"
Marked = tuple[Path, str, Marking]  # a file, its units, and the marks of its records


def build_structures(
    source: Source, folder: Path, reading: Reading, processes: int | None, progress: bool | None
) -> Manifest:
    """Build a source of structures into `folder`, whole or not at all.

    Raises:
        ValueError: the source holds no structure that can be used, leaves one of the three splits empty, does not have
            the labels that the reading names, or its units cannot be known.
    """
    room = home() / "building" / f"{folder.name}-{CHUNK}-marked"
    with claimed(room):
        if (folder / MANIFEST_FILE).is_file():
            return read_manifest(folder)
        try:
            for _, path in source.files:
                format_of(path).require_heeded(reading)
            lone = _isolated_atoms(reading)
            parts = FrameParts(room)
            files = [(path, units_name(path, reading), marking) for path, marking in _marked(source, reading)]
            for number, part, rejected in _read(files, reading, parts, processes, progress):
                parts.put(number, part, rejected)
            manifest = _assembled(source, folder, reading, parts, lone, files)
        except ValueError:
            discard(room)  # the same file would be refused again
            raise
        discard(room)
        return manifest


def units_name(path: Path, reading: Reading) -> str:
    """The units of a file: what the reading declares, else what the format is published with.

    Raises:
        ValueError: neither says.
    """
    form = format_of(path)
    name = reading.units or form.units
    if name is None:
        raise ValueError(
            f"Data.source={str(path)!r} does not say its units, nor does its layout ({form.name}); declare them "
            "(Reading.units, --units), e.g. 'kcal/mol angstrom'."
        )
    return units_of(name).name


def _marked(source: Source, reading: Reading) -> tuple[tuple[Path, Marking], ...]:
    def records(path: Path) -> int:
        return sum(chunk.records for chunk in format_of(path).chunks(path, reading))

    return markings(source, reading, records)


def _read(
    files: Sequence[Marked], reading: Reading, parts: FrameParts, processes: int | None, progress: bool | None
) -> Iterator[tuple[int, Any, list[Rejected]]]:
    """The parts that are not there yet."""
    label = f"reading {files[0][0].name}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    with parallel.progress_bar(None, label, progress) as shown:

        def todo() -> Iterator[Task]:
            number = first = 0
            for path, units, marking in files:
                before = first
                for chunk in format_of(path).chunks(path, reading):
                    marks = marking.marks(first - before, chunk.records)
                    if number in parts.done or np.all(marks == LEFT_OUT):
                        shown.advance(chunk.records)
                    else:
                        yield Task(number, first, path, chunk, reading, units, marks)
                    number, first = number + 1, first + chunk.records

        for number, part, rejected in parallel.in_processes(read_task, todo(), processes):
            shown.advance(len(part.lengths) + len(rejected))
            yield number, part, rejected


def _isolated_atoms(reading: Reading) -> dict[int, float]:
    """Energies of the isolated atoms of the file that the reading names."""
    if reading.isolated is None:
        return {}
    path = Path(reading.isolated).expanduser()
    if not path.is_file():
        raise ValueError(f"Reading.isolated={reading.isolated!r} is not a file; give one of lone atoms with energies.")
    form, units, found = format_of(path), units_of(units_name(path, reading)), {}
    for chunk in form.chunks(path, reading):
        for record in form.records(path, chunk.where, reading):
            try:
                if isinstance(record, UnusableError):
                    raise record
                frame = checked(replace(record, isolated=True), units)
            except UnusableError as fault:
                raise ValueError(f"Reading.isolated={reading.isolated!r} has a record that is none: {fault}.") from None
            if len(frame.species) != 1:
                raise ValueError(f"Reading.isolated={reading.isolated!r} has a record of more than one atom.")
            found[int(frame.species[0])] = frame.energy
    if not found:
        raise ValueError(
            f"Reading.isolated={reading.isolated!r} holds no atom; give a file of lone atoms with energies."
        )
    return found


def _assembled(
    source: Source,
    folder: Path,
    reading: Reading,
    parts: FrameParts,
    lone: dict[int, float],
    files: Sequence[Marked],
) -> Manifest:
    discard(scratch := parts.folder / "scratch")  # left by a build that was killed
    assembler = Assembler(source.name, parts, scratch, lone, reading)
    if not assembler.structures:
        first = next(parts.rejected(), None)
        why = "the file is empty" if first is None else f"record {first.line}: {first.reason}"
        if "neither energy nor forces" in why and "energy" in format_of(files[0][0]).heeds:
            why += "; name their keys (Reading.energy, Reading.forces; --energy, --forces)"
        raise ValueError(f"Data.source={source.name!r} holds no labelled structure that can be read; {why}.")
    assembler.check()
    with staged(folder) as room:
        found = assembler.assemble(room)
        require_found(reading, {"groups": found.named, **found.labelled}, source.name)
        manifest = _manifest(source, reading, found, parts, files)
        rejected = chain(parts.rejected(), found.left_out)
        return complete(room, manifest, found.sums, rejected)


def _manifest(
    source: Source, reading: Reading, found: Assembled, parts: FrameParts, files: Sequence[Marked]
) -> AtomicManifest:
    path = files[0][0]
    facts = facts_of(path) if path.suffix.lower() == ".parquet" else {}
    return AtomicManifest(
        source=source.name,
        family="structures",
        content="",
        builder=BUILDER,
        counts=dict(zip(SPLITS, found.counts, strict=True)),
        totals={"atoms": found.train_atoms, "groups": found.train_groups},
        rejected=counted(chain(parts.rejected(), found.left_out)),
        licence=str(facts.get("licence", source.licence)),
        citation=str(facts.get("citation", source.citation)),
        notes=_notes(source, reading, found, format_of(path), files[0][1], labels_of(facts, reading.level)),
        species=tuple(sorted(found.reference.energies)),
        reference=dict(sorted(found.reference.energies.items())),
        scale=found.scale,
        largest=found.largest,
        label_noise=_label_noise(facts),
    )


def _notes(
    source: Source, reading: Reading, found: Assembled, form: Format, units: str, labels: str | None
) -> dict[str, Any]:
    notes: dict[str, Any] = {
        "origin": source.origin,
        "units": source.units,
        "read_as": form.name,
        "read_units": f"{units} ({'declared' if reading.units else form.source})",
        "splits": told(reading),
        "groups": _GROUPED if found.named else _NOT_GROUPED,
        "ungrouped": sum(found.counts) - found.named,
        "reference": found.reference.rule,
        "labelled": found.labelled,
        "duplicates": found.duplicates,
    }
    if labels is not None:
        notes["labels"] = labels
    if found.reference.open:
        notes["reference_open"] = found.reference.open
    if any(found.states.values()):
        notes["states"] = {name: count for name, count in found.states.items() if count}
    if reading != Reading():
        notes["reading"] = {k: v for k, v in vars(reading).items() if v != getattr(Reading(), k)}
    return notes


def _label_noise(facts: dict[str, Any]) -> dict[str, float]:
    """The floors measured on a random sample of the file's structures; empty where it carries none."""
    noise = facts.get("label_noise") or {}
    sample = noise.get("sample", noise)
    return {name: float(value) for name, value in sample.items() if isinstance(value, int | float)}
