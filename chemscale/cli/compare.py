"""Whether groups of runs share a law: compare."""

from __future__ import annotations

import argparse
from typing import Any

from chemscale.cli.output import cell_text, json_text, print_json, print_rows, writable
from chemscale.cli.reading import read_table
from chemscale.laws import Comparison, FitError, JointLaw
from chemscale.laws import compare as compare_groups
from chemscale.laws.comparison.paired import Paired


def compare(given: argparse.Namespace) -> int:
    """Whether groups of runs, such as architectures, share a law's exponents, and what their constants differ by."""
    writable(given.out)
    table = read_table(given.table)
    try:
        found = compare_groups(
            table, by=given.by, loss=given.loss, params=given.params, data=given.data, seen=given.seen,
            flops=given.flops, where=given.where, form=given.form, shared=tuple(filter(None, given.shared.split(","))),
            floor=given.floor, noise_floor=given.noise_floor, reference=given.reference, level=given.level,
            bootstrap=given.bootstrap, seed=given.seed,
        )  # fmt: skip
    except FitError as error:
        if not given.json:
            raise
        print_json(failed(given.by, error))
        return 1
    if given.out:
        from chemscale.records.place import LocalPlace

        LocalPlace(".").write(given.out, lambda file: file.write(json_text(found.to_json()).encode()))
    if given.json:
        print_json(found.to_json())
    else:
        _print(found)
    return 0


def failed(by: str, error: Exception) -> dict[str, Any]:
    """The JSON object of a comparison that is not to be believed: the keys of `Comparison.to_json`, `error` set."""
    return {
        "by": by, "reference": None, "groups": [], "loss": {}, "level": None, "sentence": None, "sentences": [],
        "law": None, "along": [], "paired": [], "warnings": [], "error": str(error), "provenance": {},
    }  # fmt: skip


def _print(found: Comparison) -> None:
    for said in found.sentences:
        print(said)
    for look in found.paired:
        _print_paired(look)
    for law in (found.law, *found.along):
        _print_law(law)
    for warning in found.warnings:
        print(f"note: {warning}")


def _print_paired(look: Paired) -> None:
    print(f"\nfirst look, {look.group} over {look.reference}: {look.words}")
    if look.ratio is None:
        return
    ends = ", {:.0%} interval {:.4g} to {:.4g}".format(look.level, *look.ratio_interval) if look.ratio_interval else ""
    print(f"  {look.pairs} pairs; ratio of losses {look.ratio:.4g}{ends}")
    for axis, slope in look.slopes.items():
        between = f" ({slope['low']:+.3g} to {slope['high']:+.3g})" if slope["low"] is not None else ""
        print(f"  slope of the log ratio against log {axis}: {slope['value']:+.3g}{between}")


def _print_law(law: JointLaw) -> None:
    print(f"\n{law.form} ({law.equation}) over {', '.join(a['name'] for a in law.axes.values())}, {law.about}")
    columns = [
        {"model": m.name + (" *" if m.name == law.chosen else ""), "parameters": m.parameters,
         "log likelihood": f"{m.log_likelihood:.2f}", "AIC": f"{m.aic:.2f}", "noise": f"{m.sigma:.2%}"}
        for m in law.models
    ]  # fmt: skip
    print_rows(columns, False)
    print(f"  * differences come from this one; {law.floor}")
    tests = [
        {"do groups differ in": t.question, "LR": f"{t.statistic:.2f}", "degrees": t.degrees,
         "p": f"{t.p_bootstrap:.3g}" if t.p_bootstrap is not None else "", "p (F)": f"{t.p_f:.3g}",
         "p (chi2)": f"{t.p_chi2:.3g}"}
        for t in law.tests
    ]  # fmt: skip
    print_rows(tests, False)
    shown = [
        {"group": d.group, "exponent": d.exponent, "minus that of": d.reference, "difference": f"{d.value:+.4g}",
         "low": _end(d.low), "high": _end(d.high), "at most": cell_text(d.at_most) or "not bounded"}
        for d in law.differences
    ]  # fmt: skip
    if shown:
        print_rows(shown, False)


def _end(value: float | None) -> str:
    return "not bounded" if value is None else f"{value:+.4g}"
