"""A space as a store keeps it: rows that are plain JSON, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from numbers import Integral, Real
from typing import Any

from chemscale.sweep.space import Choice, Domain, Integers, LogUniform, Space, Uniform, When

KINDS = {"loguniform": LogUniform, "uniform": Uniform, "integers": Integers, "choice": Choice}
NAMES = {kind: name for name, kind in KINDS.items()}


def written(domains: Mapping[str, Domain | When]) -> list[dict[str, Any]]:
    """A row for each field: {"field", "kind", and what the domain holds}; a list, so that a newer space replaces it.

    Values of a choice that JSON does not know are written as their `repr`.
    """
    return [{"field": name, **_domain(domain)} for name, domain in domains.items()]


def _domain(domain: Domain | When) -> dict[str, Any]:
    if isinstance(domain, When):
        cases = [[_plain(value), _domain(case)] for value, case in domain.cases.items()]
        return {"kind": "when", "on": domain.field, "cases": cases}
    if isinstance(domain, Choice):
        return {"kind": "choice", "values": [_plain(value) for value in domain.values]}
    return {"kind": NAMES[type(domain)], **{name: _plain(value) for name, value in asdict(domain).items()}}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) and math.isfinite(value) else repr(value)


def read_space(rows: Sequence[Mapping[str, Any]]) -> Space:
    """The space of such rows.

    Raises:
        ValueError: a kind of domain that this version does not know, or a space that hangs together no more.
    """
    return Space({str(row["field"]): _read({k: v for k, v in row.items() if k != "field"}) for row in rows})


def _read(row: Mapping[str, Any]) -> Domain | When:
    held = {name: value for name, value in row.items() if name != "kind"}
    if row["kind"] == "when":
        return When(held["on"], {value: _read(case) for value, case in held["cases"]})
    if row["kind"] not in KINDS:
        raise ValueError(f"kind={row['kind']!r} is no domain of this version; it has {', '.join(KINDS)} and when.")
    if row["kind"] == "choice":
        return Choice(tuple(held["values"]))
    return KINDS[row["kind"]](**held)
