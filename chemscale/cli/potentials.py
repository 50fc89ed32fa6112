"""The verb `evaluate` for potentials: errors on a file of labelled structures."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chemscale.cli.output import json_text, print_json, print_rows, writable

TABLES, PAGE = (".csv", ".parquet"), ".html"
SHOWN = {  # error -> its column on a terminal, in thousandths of its unit
    "energy_mae": "energy MAE, meV/atom", "energy_rmse": "RMSE, meV/atom", "total_rmse": "RMSE, meV",
    "force_mae": "force MAE, meV/Å", "force_rmse": "RMSE, meV/Å",
}  # fmt: skip


def evaluate(given: argparse.Namespace) -> None:
    """Errors of a potential on a file of structures, in all and per subset."""
    from chemscale.spec import Reading
    from chemscale.use.atoms import Answering
    from chemscale.use.errors import ERRORS, measure
    from chemscale.use.find import trained_in
    from chemscale.use.labelled import read_labelled

    _check_out(given.out)
    trained = trained_in(given.file, given.run, "structures")
    reading = Reading(
        energy=given.energy_key, forces=given.forces_key, level=given.labels, units=given.units, groups=given.groups
    )
    labelled = read_labelled(given.structures, subsets=given.subset, reading=reading)
    answering = Answering(trained, precision=given.precision, device=given.device)
    measured = measure(answering, labelled, draws=given.bootstrap, level=given.level)
    record = {
        "run_id": trained.run.id,
        "architecture": trained.run.model.architecture,
        "file": given.structures,
        "subset_key": measured.labelled.named_by,
        "subsets": [asdict(one) for one in measured.subsets],
        "level": given.level,
        "units": ERRORS,
        "left_out": dict(measured.labelled.left_out),
    }
    if given.out:
        _write(given, measured, record)
    if given.json:
        return print_json(record)
    print_rows([_row(one) for one in measured.subsets], False)
    for reason, count in measured.labelled.left_out.items():
        print(f"left out, {reason}: {count:,}")
    groups = measured.subsets[0].groups
    told = f"{given.level:.0%} intervals by {given.bootstrap:,} draws of {groups:,} groups" if given.bootstrap else ""
    return print(f"run {trained.run.id}, {trained.run.model.architecture}{'; ' + told if told and groups > 1 else ''}")


def _check_out(out: str | None) -> None:
    writable(out)
    known = (".json", PAGE, *TABLES)
    if out is not None and Path(out).suffix.lower() not in known:
        raise ValueError(f"--out {out!r} ends in {Path(out).suffix!r}; for structures use one of {', '.join(known)}.")


def _write(given: argparse.Namespace, measured: Any, record: dict[str, Any]) -> None:
    from chemscale.records.place import LocalPlace

    kind = Path(given.out).suffix.lower()
    if kind in TABLES:
        from chemscale.use.errors import table_of
        from chemscale.use.parts import write_whole, writer_of

        tables: Iterator[Any] = iter([table_of(measured)])
        return write_whole(writer_of(given.out), tables, given.out)
    if kind == PAGE:
        from chemscale.report.evaluated import page_of

        text = page_of(measured, record)
    else:
        text = json_text(record)
    return LocalPlace(".").write(given.out, lambda file: file.write(text.encode()))


def _row(one: Any) -> dict[str, str]:
    errors = {column: _error(one.errors[name]) for name, column in SHOWN.items()}
    return {"subset": one.name, "structures": f"{one.structures:,}", **errors}


def _error(found: Any) -> str:
    """12.3 (11.9–12.8), in thousandths of the unit."""
    if found is None:
        return "—"
    if found.low is None:
        return f"{1000 * found.value:.4g}"
    places = max(0, min(3, 2 - len(f"{1000 * (found.high - found.low):.0f}")))
    value, low, high = (f"{1000 * v:.{places}f}" for v in (found.value, found.low, found.high))
    return f"{value} ({low}–{high})"
