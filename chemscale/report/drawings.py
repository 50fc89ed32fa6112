"""The figures of the page, drawn from its values."""

from __future__ import annotations

from typing import Any

from chemscale.report import figures
from chemscale.report.audited import concerns
from chemscale.report.labels import label_table, sentence
from chemscale.report.planned import table
from chemscale.report.quality import quality_table
from chemscale.report.values import Compared, Misses, Planned, Quality, Report, Searched, Table

DRAWN = ("validity", "unique", "novelty", "fcd", "snn", "scaffolds")  # metrics of samples with a figure


def drawings(found: Report) -> dict[str, Any]:
    """Name of a part of the page -> its values with their figures."""
    return {
        "scaling": [(s, figures.scaling(s, "data"), figures.scaling(s, "params")) for s in found.sections if s.varies],
        "laws": _laws(found),
        "residuals": [(misses, _residuals(misses)) for misses in found.residuals],
        "backtests": [(misses, figures.backtest(misses)) for misses in found.backtests],
        "frontiers": [(front, (figures.frontier(front), figures.best_sizes(front))) for front in found.frontiers],
        "comparisons": [(one, _compared(one)) for one in found.comparisons],
        "concerns": concerns(found.audit),
        "plans": [(one, table(one)) for one in found.plans],
        "labels": [_labels(one) for one in found.plans],
        "quality": [(one, quality_table(one), _written(one)) for one in found.quality],
        "curves": [(curves, figures.learning(curves)) for curves in found.curves],
        "searches": [_search(one) for one in found.searches],
        "parity": [(p, figures.parities(p)) for p in found.held.potentials],
    }


def _laws(found: Report) -> list[list[figures.Figure | None]]:
    """Of every law its figures along data and parameters; a law of one axis has one."""
    slugs = dict.fromkeys(one.section.slug for one in found.traced)
    drawn = [[figures.law(one) for one in found.traced if one.section.slug == slug] for slug in slugs]
    return [[*pair, None][:2] for pair in drawn]


def _residuals(misses: Misses) -> list[figures.Figure]:
    return [figures.residuals(misses, axis) for axis in misses.axes]  # type: ignore[arg-type]


def _compared(one: Compared) -> list[figures.Figure]:
    looks = [figures.paired(one)] if one.looks else []
    spent = [figures.costs(one)] if one.costs else []
    return [*looks, *spent, *([figures.differences(one)] if one.differences else [])]


def _labels(one: Planned) -> tuple[list[str], Table]:
    told = [sentence(each, one.unit, one.data_unit) for each in one.labels]
    return told, label_table(one.labels, one.unit, one.data_unit)


def _written(one: Quality) -> list[figures.Figure]:
    """Of the metrics that people look at first, where they differ between runs."""
    drawn = (written for written in one.metrics if written.metric in DRAWN and written.correlation is not None)
    return [figures.quality(one, written) for written in drawn]


def _search(one: Searched) -> tuple[Any, ...]:
    importance = figures.importance(one) if one.importances else None
    return one, figures.stops(one), importance, figures.slices(one)
