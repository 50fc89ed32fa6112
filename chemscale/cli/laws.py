"""Laws from a store or any table: fit."""

from __future__ import annotations

import argparse
import textwrap
from math import isfinite
from pathlib import Path
from typing import Any

from chemscale.cli.output import json_text, print_json, writable
from chemscale.cli.slices import FORM, print_slices
from chemscale.laws import FitError, Law, failure
from chemscale.laws import fit as fit_law

SHOWN = 6  # members of an ensemble that a person is told of


def fit(given: argparse.Namespace) -> int:
    """A scaling law, with its doubt, from a store or any CSV or Parquet file."""
    writable(given.out)
    table = read_table(given.table)
    if given.form == FORM:
        return print_slices(given, table)
    points = [parse_point(text) for text in given.predict]
    try:
        found = fit_law(
            table, form=given.form, params=given.params, data=given.data, flops=given.flops, seen=given.seen,
            epochs=given.epochs, cluster=given.cluster, noise_floor=given.noise_floor, loss=given.loss,
            where=given.where, by=given.by, objective=given.objective, delta=given.delta, weights=given.weights,
            bootstrap=given.bootstrap, level=given.level, hold_out=given.hold_out, along=given.along, seed=given.seed,
            interval=given.interval, censored=given.censored, counts=given.counts,
        )  # fmt: skip
    except FitError as error:
        if not given.json:
            raise
        print_json(failure(given.form, error))
        return 1
    laws: dict[Any, Law] = found if given.by else {None: found}
    coverage = {name: law.calibrate(given.calibrate, at=points) for name, law in laws.items() if given.calibrate}
    objects = [
        {
            **({given.by: name} if given.by else {}), **law.to_json(points),
            **({"calibration": coverage[name].to_json()} if given.calibrate else {}),
        }
        for name, law in laws.items()
    ]  # fmt: skip
    whole = objects if given.by else objects[0]
    if given.out:
        from chemscale.records.place import LocalPlace

        LocalPlace(".").write(given.out, lambda file: file.write(json_text(whole).encode()))
    if given.json:
        print_json(whole)
        return 0
    for name, law in laws.items():
        _print_law(law, f"{given.by}={name}" if given.by else None, points)
        if given.calibrate:
            print(f"  coverage of {law.level:.0%} intervals in {given.calibrate} simulations, in percent:")
            print(textwrap.indent(coverage[name].table(), "  "))
    return 0


def _print_law(law: Law, title: str | None, points: list[dict[str, float]]) -> None:
    if title:
        print(title)
    axes = ", ".join(f"{role}: {law.columns[role]['name']}" for role in law.roles)
    print(
        f"{law.form} over {axes}; {law.columns['loss']['name']} in {law.units}; {law.n_runs} runs; "
        f"objective {law.objective['name']}"
    )
    for name, value in law.parameters.items():
        low, high = law.intervals[name]
        if value is None:
            print(f"  {name:<6} not identified")
        elif not isfinite(high):
            print(f"  {name:<6} {value:<12.5g} no interval")
        else:
            print(f"  {name:<6} {value:<12.5g} {law.level:.0%} interval {low:.5g} to {high:.5g}")
    for point in points:
        seen = law.predict(**point)
        at = ", ".join(f"{k}={v:g}" for k, v in point.items())
        print(f"  at {at}: {seen.value:.5g} {seen.units}, {law.level:.0%} interval {seen.low:.5g} to {seen.high:.5g}")
    if law.backtest is not None:
        print(f"  backtest on the largest runs: rmsle {law.backtest.rmsle:.4f}")
    for score in law.scores:
        print(f"    {score['form']:<12} rmsle {score['rmsle']:.4f}")
    for part in law.ensemble.table()[:SHOWN] if law.ensemble else ():
        print(f"  weight {part['weight']:.2f}: {part['member']} (rmsle {part['rmsle']:.4f} at several origins)")
    for found in law.breaks:
        if found.found:
            print(f"  note: {found.sentence}")
    for warning in law.warnings:
        print(f"  note: {warning}")


def read_table(path: str) -> Any:
    """RUNS of a store, or a CSV or Parquet file.

    Raises:
        ValueError: there is no such file, it is of another kind, it cannot be read, or two columns share a name.
    """
    from pyarrow import ArrowInvalid
    from pyarrow.csv import read_csv
    from pyarrow.parquet import read_table as read_parquet

    from chemscale.laws.tables.table import refuse_twins

    file = Path(path)
    if "://" in path or file.is_dir():
        from chemscale.records.store import Store

        return Store(path).runs()
    readers = {".csv": read_csv, ".gz": read_csv, ".parquet": read_parquet}
    if not file.exists() or file.suffix not in readers:
        what = "is not there" if not file.exists() else "is of no known kind"
        raise ValueError(f"table={path!r} {what}; give a store, a .csv, .csv.gz or .parquet file.")
    try:
        table = readers[file.suffix](file)
        names = table.column_names
    except (ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"table={path!r} cannot be read: {str(error).splitlines()[0]}") from None
    refuse_twins(names, path)
    return table


def parse_point(text: str, option: str = "--predict") -> dict[str, float]:
    """`params=1e9,data=1e8` as numbers.

    Raises:
        ValueError: a part is no name=number.
    """
    point = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            point[name.strip()] = float(value)
        except ValueError:
            raise ValueError(f"{option} {text!r} is not of the form params=1e9,data=1e8.") from None
    return point
