"""What labels are worth to the largest run so far of every architecture, and what to buy first for the next one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chemscale.audit.groups import Group
from chemscale.laws import Law
from chemscale.plan import RunCost, Spend
from chemscale.plan.worth import params_or_data, worth_of_labels
from chemscale.report.numbers import count, percent, power, size, with_ends
from chemscale.report.values import Column, Entry, Labels, Table


def labels(group: Group, law: Law, rule: RunCost) -> Labels:
    """The worth of labels, in display units, with the cost that `rule` gives runs."""
    spend, scale = Spend(rule), group.measure.scale
    first = params_or_data(law, spend)
    worth = worth_of_labels(law, spend, first.params, first.data)
    low, high = worth.tenfold_interval
    run = float(spend.of(np.array(first.params), np.array(first.data)))
    return Labels(
        group.title, first.params, first.data, run, (worth.tenfold * scale, low * scale, high * scale),
        worth.flops_for_tenfold, first.by_data, first.by_params, first.probability, first.answer,
    )  # fmt: skip


def sentence(found: Labels, unit: str, data: str) -> str:
    """Ten times the labels, and the next doubling."""
    value, low, high = with_ends(*found.tenfold)
    more = "no larger model does the same on the same data"
    if found.instead is not None:
        more = f"a larger model does the same for {found.instead / found.flops:.2g} × the compute of that run more"
    bought = f"data take {percent(found.by_data)} off the loss and parameters {percent(found.by_params)}"
    said = {"data": "buy data first", "parameters": "buy parameters first"}.get(found.answer, "either may come first")
    return (
        f"{found.model}: ten times the {data} of its largest run would take {value} {unit} off ({low} to {high}); "
        f"{more}. "
        f"At twice its compute {bought}: {said} (data win in {percent(found.probability)} of the law’s draws)."
    )


def label_table(found: Sequence[Labels], unit: str, data: str) -> Table:
    """A row for every architecture."""
    columns = (
        Column("model"), Column("largest run"), Column(f"10 × the {data}, {unit} off", True),
        Column("larger model instead, FLOPs", True), Column("2 × compute: data", True), Column("parameters", True),
        Column("data win", True),
    )  # fmt: skip
    return Table(columns, tuple(_row(one) for one in found))


def _row(one: Labels) -> tuple[Entry, ...]:
    value, low, high = with_ends(*one.tenfold)
    return (
        Entry(one.model), Entry(f"{count(one.params)} on {size(one.data)}"), Entry(f"{value} ({low} to {high})"),
        Entry("none does" if one.instead is None else power(one.instead)), Entry(f"−{percent(one.by_data)}"),
        Entry(f"−{percent(one.by_params)}"), Entry(percent(one.probability)),
    )  # fmt: skip
