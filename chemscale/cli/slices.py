"""A grid read slice by slice: `fit --form sliced`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from chemscale.cli.options import refuse_unused
from chemscale.cli.output import print_json, print_rows
from chemscale.laws import Slices, sliced

FORM = "sliced"
REFUSED = (  # options of a law that a reading of slices has no use for
    "by", "flops", "seen", "epochs", "weights", "censored", "hold_out", "along", "out", "cluster", "objective",
    "bootstrap", "interval", "noise_floor", "calibrate", "predict", "counts",
)  # fmt: skip


def print_slices(given: argparse.Namespace, table: Any) -> int:
    """Power laws without floor, one for each amount of data, and which cells are short of data."""
    from chemscale.laws.tables.columns import read
    from chemscale.laws.tables.meaning import data_of

    refuse_unused(given, REFUSED, f"says nothing with --form {FORM}, which reads params, data and loss; leave it out")
    columns = read(table)
    data = given.data or data_of(columns, given.loss)
    if data is None:
        raise ValueError(f"--data is missing and --loss {given.loss!r} names no unit of its own; give --data COL.")
    params = given.params or "params"
    found = sliced(columns, loss=given.loss, params=params, data=data, where=given.where, level=given.level)
    if given.json:
        print_json({"form": FORM, **asdict(found), "trend": found.trend, "error": None})
    else:
        _print(found)
    return 0


def _print(found: Slices) -> None:
    names = found.columns
    print(
        f"{names['loss']} = amplitude x {names['params']}^-exponent, a power law without floor, at each amount of "
        f"{names['data']}; {found.units}; {found.level:.0%} intervals"
    )
    print_rows(
        [
            {
                names["data"]: f"{part.data:g}",
                "runs": part.runs,
                "exponent": _with_ends(part.exponent, part.interval),
                "amplitude": part.amplitude,
                "data-limited runs": part.limited,
                "exponent without them": "" if part.free is None else _with_ends(part.free, part.free_interval),
            }
            for part in found.slices
        ],
        False,
    )
    print(found.trend[0].upper() + found.trend[1:])
    print("\nwhat each cell is limited by (D data, N model, . cannot tell), largest model last:")
    marks = {"data-limited": "D", "model-limited": "N"}
    for amount in dict.fromkeys(cell.data for cell in found.cells):
        row = (marks.get(cell.regime, ".") for cell in found.cells if cell.data == amount)
        print(f"  {amount:>12g}  {' '.join(row)}")
    for note in found.notes:
        print(f"  note: {note}")


def _with_ends(value: float, ends: tuple[float, float] | None) -> str:
    return f"{value:.4g}" + (f" ({ends[0]:.4g} to {ends[1]:.4g})" if ends else " (interval unknown)")
