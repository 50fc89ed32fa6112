"""A store in, all that its page says out: values, computed here and nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from chemscale.audit.comparing import compared
from chemscale.audit.convergence import points_of
from chemscale.audit.groups import Group, Row, groups_of
from chemscale.audit.manifests import manifests_of
from chemscale.audit.subject import of_groups
from chemscale.audit.thinning import run_ids_of, thinned
from chemscale.audit.values import joined
from chemscale.laws.readings.verdict import CANNOT_TELL
from chemscale.plan import resolved
from chemscale.records.store import Store
from chemscale.report.audited import audited
from chemscale.report.breaking import breaks
from chemscale.report.compared import comparisons
from chemscale.report.exponents import exponents
from chemscale.report.fitted import Given, law_of, law_table, laws_of
from chemscale.report.foreseen import foreseen
from chemscale.report.frontier import frontiers
from chemscale.report.held import hold
from chemscale.report.limits import limits
from chemscale.report.listing import compute_table, every_run, provenance, run_table
from chemscale.report.misses import backtests, residuals
from chemscale.report.numbers import duration, power, some
from chemscale.report.origins import noise_of, origins
from chemscale.report.planned import planned
from chemscale.report.quality import quality
from chemscale.report.rulings import ruling
from chemscale.report.scaling import headline
from chemscale.report.searches import searches
from chemscale.report.traced import traced
from chemscale.report.values import (
    Audited,
    Brief,
    Broken,
    Compared,
    Curve,
    Curves,
    Dot,
    Foreseen,
    Planned,
    Quality,
    Report,
    Ruling,
    Searched,
    Section,
)

MOST_TOLD = 3  # searches among the sentences of the beginning, the largest ones
MOST_CURVES, MOST_SIZES = 200, 8  # learning curves of one group, and its sizes of model and of data
TITLE = "What ten times more buys"


def collect(store: Store, laws: Given = None, *, metrics: Sequence[str] | None = None) -> Report:
    """Everything that the page says.

    Args:
        laws: a law, several, or one per architecture; None fits a Chinchilla law to every group.
        metrics: columns of RUNS to report on; None is each architecture's own `law_metric`.

    Raises:
        ValueError: no run has finished, a metric is unknown, or a law belongs to no architecture of the store.
    """
    rows = store.runs().to_pylist()
    groups = tuple(thinned(group) for group in groups_of(rows, metrics))
    if not groups:
        raise ValueError(_nothing_finished(store, rows, metrics))
    points = points_of(store, run_ids_of(groups))
    manifests = manifests_of(groups)
    fitted, notes = laws_of(groups, laws)
    seen = foreseen(rows, resolved(store.forecasts(), rows), groups)
    sections = tuple(section(group, seen, noise_of(manifests.get(group.content), group.metric)) for group in groups)
    main, more = exponents(groups)
    together = compared(of_groups(groups, points, manifests, fitted))
    comparing, unlike = comparisons(together)
    rivals = partial(law_of, form="auto") if laws is None else None  # a law that was given was chosen
    plans, rulings = planned(groups, fitted, rivals), tuple(ruling(group) for group in groups)
    searched, written = searches(rows, partial(points_of, store)), quality(store, groups)
    broken = breaks(groups, fitted)
    audit = audited(store, groups, points, manifests, fitted, together)
    return Report(
        title=TITLE,
        questions=tuple(study["question"] for study in store.studies().values() if study.get("question")),
        summary=_summary(rows, groups),
        headlines=tuple(headline(group, fitted.get(group.slug)) for group in groups),
        foreseen=seen,
        sections=sections,
        rulings=rulings,
        limits=limits(groups, points, manifests, store.studies()),
        exponents=main,
        more_exponents=more,
        laws=law_table(groups, fitted),
        traced=traced(groups, fitted, sections),
        law_notes=(*notes, *unlike),
        residuals=residuals(groups, fitted),
        backtests=backtests(groups, fitted),
        breaks=broken,
        frontiers=frontiers(groups, fitted),
        comparisons=comparing,
        plans=plans,
        audit=audit,
        searches=searched,
        quality=written,
        brief=brief(rulings, comparing, plans, broken, searched, written, audit),
        curves=tuple(c for group in groups if (c := curves(group, points)).curves),
        held=hold(store, groups),
        runs=run_table(rows),
        every_run=every_run(rows),
        notes=audit.notes,
        compute=compute_table(rows),
        provenance=provenance(rows),
        origins=origins(groups, manifests),
    )


def brief(
    rulings: Sequence[Ruling],
    compared: Sequence[Compared],
    plans: Sequence[Planned],
    broken: Sequence[Broken],
    searched: Sequence[Searched],
    written: Sequence[Quality],
    audit: Audited,
) -> tuple[Brief, ...]:
    """What the sections say, one sentence each."""
    told = [one for one in rulings if one.answer != CANNOT_TELL or one.would_decide]
    found = [Brief("verdict", f"{one.name}: {one.answer}. {one.reason}") for one in told]
    found += [Brief("comparison", one.sentence) for one in compared]
    found += [Brief("plan", f"{' or '.join(one.names)}: {one.tenfold}") for one in plans]
    found += [Brief("breaks", f"{one.name}: {line}") for one in broken if one.found for line in one.sentences]
    found += [Brief("searches", f"{one.cell}: {line}") for one in searched[:MOST_TOLD] for line in _told(one)]
    found += [Brief("quality", f"{one.name}: {one.sentence}") for one in written]
    found.append(Brief("audit", audit.sentence))
    return tuple(found)


def _told(found: Searched) -> Iterable[str]:
    """What a search teaches: how much its stops left out, and which settings mattered."""
    lines = (*found.stop_sentences[:1], *found.importance_sentences)
    return (line[:1].lower() + line[1:] for line in lines)


def _nothing_finished(store: Store, rows: Sequence[Row], metrics: Sequence[str] | None) -> str:
    counts = Counter(row["status"] for row in rows)
    what = joined([f"{n} {status}" for status, n in sorted(counts.items())]) if counts else "no run at all"
    asked = f" with {joined(list(metrics))}" if metrics else ""
    return f"{store.url} has no finished run{asked} ({what}); a report needs one, so finish a sweep first."


def section(group: Group, seen: Iterable[Foreseen], noise: float | None) -> Section:
    """What the two plots of a group draw."""
    measure = group.measure
    mine = tuple(f for f in seen if f.group == group.slug and f.predicted is not None)
    return Section(
        group.slug, group.title, group.family, group.metric, measure.words, measure.unit, group.data, _dots(group),
        mine, None if noise is None else noise * measure.scale,
    )  # fmt: skip


def _dots(group: Group) -> tuple[Dot, ...]:
    scale, metric = group.measure.scale, group.metric
    return tuple(
        Dot(
            row["run_id"], float(row["params"]), float(row[group.data]), row[metric] * scale,
            None if row[f"{metric}_se"] is None else row[f"{metric}_se"] * scale, row["seed"],
        )
        for row in group.rows
    )  # fmt: skip


def curves(group: Group, points: Mapping[str, Sequence[Row]]) -> Curves:
    """The learning curves of a group's finished runs, in its headline metric where the points have it."""
    column = f"valid_{group.metric}"
    scale = group.measure.scale
    rows, note = _drawn(group)
    found = []
    for row in rows:
        measured = [(p["examples"], p.get(column)) for p in points.get(row["run_id"], ())]
        line = tuple((float(x), y * scale) for x, y in measured if y is not None)
        if line:
            found.append(Curve(row["run_id"], float(row["params"]), float(row[group.data]), row["seed"], line))
    return Curves(group.slug, group.title, group.measure.unit, group.data, tuple(found), note)


def _drawn(group: Group) -> tuple[Sequence[Row], str]:
    """The runs whose curves are drawn: all of a few, else one seed of each of some sizes."""
    sizes, models = ({row[name] for row in group.rows} for name in (group.data, "params"))
    if len(group.rows) <= MOST_CURVES and len(sizes) <= MOST_SIZES and len(models) <= MOST_SIZES:
        return group.rows, ""
    shown = set(some(sizes, MOST_SIZES)), set(some(models, MOST_SIZES))
    cells = {(row[group.data], row["params"]): row for row in reversed(group.rows)}
    rows = [row for (size, params), row in cells.items() if size in shown[0] and params in shown[1]]
    return rows, (
        f"{group.title}: the curves of {len(rows)} of {len(group.whole):,} runs, one seed each, at {len(shown[0])} of "
        f"{len(sizes)} sizes of data and {len(shown[1])} of {len(models)} sizes of model."
    )


def _summary(rows: Sequence[Row], groups: Sequence[Group]) -> str:
    status = Counter(row["status"] for row in rows)
    names = list(dict.fromkeys(group.name for group in groups))
    sources = list(dict.fromkeys(group.source for group in groups))
    others = [f"{n:,} {s}" for s, n in sorted(status.items()) if s != "finished"]
    left = f" ({joined(others)})" if others else ""
    flops = sum(row["flops"] or 0.0 for row in rows)
    wall = sum(row["seconds"] or 0.0 for row in rows)
    return (
        f"{status['finished']:,} finished runs{left} of {joined(names)} on {joined(sources)}: {power(flops)} FLOPs "
        f"of matrix work, {duration(wall)} in training loops."
    )
