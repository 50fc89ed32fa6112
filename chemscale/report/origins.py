"""Manifests of the data behind a store, where they are on this machine, and what they say about licence and source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chemscale.audit.groups import Group
from chemscale.audit.values import joined
from chemscale.report.numbers import whole
from chemscale.report.values import Origin

UNKNOWN = "not on this machine"


def noise_of(manifest: Any | None, metric: str) -> float | None:
    """The label-noise floor of a metric, in the store's unit; None where it was not measured."""
    return dict(getattr(manifest, "label_noise", None) or {}).get(metric)


def origins(groups: Sequence[Group], manifests: Mapping[str, Any]) -> tuple[Origin, ...]:
    """One entry per data set, in order of appearance."""
    first = {group.content: group for group in reversed(groups)}
    return tuple(_origin(first[c], manifests.get(c)) for c in dict.fromkeys(g.content for g in groups))


def _origin(group: Group, manifest: Any | None) -> Origin:
    if manifest is None:
        return Origin(group.source, group.content, UNKNOWN, "", ("Its manifest is not on this machine.",))
    counts = joined([f"{whole(n)} {split}" for split, n in manifest.counts.items()])
    facts = [f"{counts} {group.data}"]
    rejected = sum(manifest.rejected.values())
    if rejected:
        facts.append(
            f"{whole(rejected)} records left out: " + joined([f"{n} {r}" for r, n in manifest.rejected.items()])
        )
    for key in ("origin", "method", "command"):
        if manifest.notes.get(key):
            facts.append(f"{key}: {manifest.notes[key]}")
    noise = {k: v for k, v in (getattr(manifest, "label_noise", None) or {}).items() if isinstance(v, int | float)}
    if noise:
        facts.append("label noise: " + ", ".join(f"{k.replace('_', ' ')} {v:.2g}" for k, v in noise.items()))
    return Origin(group.source, group.content, manifest.licence, manifest.citation, tuple(facts))
