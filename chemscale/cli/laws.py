"""Laws from a store or any table: fit."""

from __future__ import annotations

import argparse
import sys
import textwrap
from math import isfinite
from typing import Any

from chemscale.cli.output import json_text, print_json, told_on_terminal, writable
from chemscale.cli.reading import read_table
from chemscale.cli.slices import FORM, print_slices
from chemscale.laws import FORMS, FitError, Law, PartialFitError, failure
from chemscale.laws import fit as fit_law

SHOWN = 6  # members of an ensemble that a person is told of


def fit(given: argparse.Namespace) -> int:
    """A scaling law, with its doubt, from a store or any CSV or Parquet file."""
    if given.form is not None and given.form not in (*FORMS, "auto", FORM):
        raise ValueError(f"--form {given.form!r} is not one of {', '.join(FORMS)}, auto, {FORM}.")
    writable(given.out)
    table = read_table(given.table)
    if given.form == FORM:
        return print_slices(given, table)
    points = [parse_point(text) for text in given.predict]
    found: Any
    failed: dict[Any, Exception] = {}
    try:
        with told_on_terminal("fitting") as told:
            found = fit_law(
                table, form=given.form, params=given.params, data=given.data, flops=given.flops, seen=given.seen,
                epochs=given.epochs, cluster=given.cluster, noise_floor=given.noise_floor, loss=given.loss,
                where=given.where, by=given.by, objective=given.objective, delta=given.delta, weights=given.weights,
                bootstrap=given.bootstrap, level=given.level, hold_out=given.hold_out, along=given.along,
                seed=given.seed, interval=given.interval, censored=given.censored, counts=given.counts, progress=told,
            )  # fmt: skip
    except PartialFitError as error:
        found, failed = error.laws, error.errors
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
    objects += [{given.by: name, **failure(given.form, error)} for name, error in failed.items()]
    whole = objects if given.by else objects[0]
    if given.out:
        from chemscale.records.place import LocalPlace

        LocalPlace(".").write(given.out, lambda file: file.write(json_text(whole).encode()))
    if given.json:
        print_json(whole)
        return 1 if failed else 0
    for name, law in laws.items():
        _print_law(law, f"{given.by}={name}" if given.by else None, points)
        if given.calibrate:
            print(f"  coverage of {law.level:.0%} intervals in {given.calibrate} simulations, in percent:")
            print(textwrap.indent(coverage[name].table(), "  "))
    for error in failed.values():
        print(f"chemscale: {error}", file=sys.stderr)
    return 1 if failed else 0


def _print_law(law: Law, title: str | None, points: list[dict[str, float]]) -> None:
    if title:
        print(title)
    axes = ", ".join(f"{role}: {law.columns[role]['name']}" for role in law.roles)
    print(f"{law.form} over {axes}; {named(law)}; {law.n_runs} runs; objective {law.objective['name']}")
    for name, value in law.parameters.items():
        low, high = law.intervals[name]
        if value is None:
            print(f"  {name:<6} not identified")
        elif not isfinite(high):
            print(f"  {name:<6} {value:<12.5g} no interval")
        else:
            print(f"  {name:<6} {value:<12.5g} {law.level:.0%} interval {low:.5g} to {high:.5g}")
    for point, seen in zip(points, law.predictions(points), strict=True):
        at = ", ".join(f"{k}={v:g}" for k, v in point.items())
        print(
            f"  at {at}: {seen.value:.5g}{law.after_loss}, {law.level:.0%} interval {seen.low:.5g} to {seen.high:.5g}"
        )
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


def named(law: Law) -> str:
    """The loss of a law with its unit, where that is known: an unknown column has its own name as unit."""
    name = law.columns["loss"]["name"]
    return name if law.units == name else f"{name} in {law.units}"


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
