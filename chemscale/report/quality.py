"""Does loss predict quality? What the finished text runs of a store wrote, against their losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chemscale.audit.groups import Group
from chemscale.audit.values import joined
from chemscale.records.store import Store
from chemscale.report.numbers import significant, whole
from chemscale.report.values import Column, Entry, Quality, Sampled, Table, Written

LEAST = 3  # runs that a rank correlation needs
FIRST = ("fcd", "snn", "scaffolds", "validity")  # what the sentence is about: the first of these that was measured
WORDS = {
    "validity": "validity", "unique": "uniqueness", "novelty": "novelty", "fcd": "FCD",
    "snn": "nearest similarity", "fragments": "agreement in fragments",
    "scaffolds": "agreement in scaffolds", "filters": "share that passes the filters",
    "logP_distance": "distance in logP", "SA_distance": "distance in synthetic accessibility",
    "QED_distance": "distance in QED", "weight_distance": "distance in weight",
}  # fmt: skip
SETS = {"moses": "the test molecules of MOSES", "embedded": "5,000 of the test molecules of MOSES"}

Row = Mapping[str, Any]


def quality(store: Store, groups: Sequence[Group]) -> tuple[Quality, ...]:
    """A value for each group of runs and each way of sampling that at least three of them share."""
    if not any(group.family == "text" for group in groups):
        return ()
    from chemscale.use.quality.cells import kept

    samples = kept(store)
    found = []
    for group in groups:
        losses = {row["run_id"]: row for row in group.rows}
        ways: dict[tuple[Any, ...], list[Row]] = {}
        for sample in samples:
            if sample["run_id"] in losses:
                way = tuple(sample[name] for name in ("strings", "temperature", "sample_seed", "reference"))
                ways.setdefault(way, []).append(sample)
        for number, mine in enumerate(ways.values()):
            if len(mine) >= LEAST:
                found.append(_quality(group, number, losses, mine))
    return tuple(found)


def _quality(group: Group, number: int, losses: Mapping[str, Row], samples: Sequence[Row]) -> Quality:
    scale = group.measure.scale
    told = [{**sample, "loss": losses[sample["run_id"]][group.metric] * scale} for sample in samples]
    told.sort(key=lambda row: row["loss"])
    runs = tuple(
        Sampled(row["run_id"], float(row["params"]), float(losses[row["run_id"]][group.data]), row["loss"])
        for row in told
    )
    metrics = tuple(_written(told))
    first = told[0]
    how = (
        f"Each of {len(runs)} runs wrote {whole(first['strings'])} strings at temperature {first['temperature']:g}, "
        f"which were held against {SETS.get(first['reference'], first['reference'])}."
    )
    slug = f"{group.slug}-quality" + (f"-{number}" if number else "")
    sentence = _sentence(runs, metrics, group.measure.unit)
    return Quality(
        slug, group.title, group.measure.unit, group.data, how, sentence, first.get("says") or "", runs, metrics
    )


def _written(rows: Sequence[Row]) -> Iterable[Written]:
    from chemscale.use.quality.ranks import BETTER, ranks

    for metric, better in BETTER.items():
        values = tuple((row["run_id"], float(row[metric])) for row in rows if row.get(metric) is not None)
        if len(values) < LEAST:
            continue
        found = ranks(rows, metric, loss="loss")
        if found is None:
            yield Written(metric, WORDS[metric], better, None, None, None, None, values)
            continue
        wanted = found.value < 0 if better == "more" else found.value > 0
        expected = wanted if found.clear else None
        yield Written(metric, WORDS[metric], better, found.value, found.low, found.high, expected, values)


def _sentence(runs: Sequence[Sampled], metrics: Sequence[Written], unit: str) -> str:
    """The answer for the first metric, what choosing by loss costs, and the metrics of which loss says otherwise."""
    known = {one.metric: one for one in metrics}
    main = next((known[name] for name in FIRST if name in known and known[name].correlation is not None), None)
    if main is None:
        return "These samples do not differ in any metric, so nothing can be said."
    answer = {True: "Loss foretells", False: "Loss misleads about", None: "Loss does not clearly foretell"}
    parts = [f"{answer[main.expected]} {main.words} over these {len(main.values)} runs ({correlation(main)})"]
    chosen = dict(main.values).get(runs[0].run_id)
    if chosen is not None:
        best = "the best of all" if chosen == main.best() else f"the best of all is {significant(main.best())}"
        parts.append(f"the run of lowest loss has {significant(chosen)}, {best}")
    worse = [one.words for one in metrics if one.expected is False and one is not main]
    alike = [one.words for one in metrics if one.correlation is None]
    silent = [one.words for one in metrics if one.expected is None and one is not main and one.words not in alike]
    if worse:
        parts.append(f"with lower loss got worse: {joined(worse)}")
    if silent:
        parts.append(f"nothing clear of {joined(silent)}")
    if alike:
        parts.append(f"alike in all runs: {joined(alike)}")
    ends = f"{significant(runs[-1].loss)} to {significant(runs[0].loss)} {unit}"
    close = f"the losses run from {ends}, and runs whose losses are close are not told apart by this"
    return "; ".join([*parts, close]) + "."


def correlation(one: Written) -> str:
    """rank correlation 0.95, 95 % interval 0.80 to 0.99"""
    if one.correlation is None:
        return "no correlation: all alike"
    text = f"rank correlation {_signed(one.correlation)}"
    if one.low is None or one.high is None:
        return f"{text}, too few runs for an interval"
    return f"{text}, 95 % interval {_signed(one.low)} to {_signed(one.high)}"


def quality_table(one: Quality) -> Table:
    """A row for each metric: its value at the highest and the lowest loss, its best, and its correlation."""
    heads = ("metric", "better", "at highest loss", "at lowest loss", "best", "rank correlation", "95 % interval")
    columns = tuple(Column(head, numeric=number > 1) for number, head in enumerate(heads))
    rows = []
    for written in one.metrics:
        ends = (written.values[-1][1], written.values[0][1], written.best())
        interval = "" if written.low is None else f"{_signed(written.low)} to {_signed(written.high or 0.0)}"
        value = "" if written.correlation is None else _signed(written.correlation)
        cells = (written.words, written.better, *(significant(end) for end in ends), value, interval)
        rows.append(tuple(Entry(cell) for cell in cells))
    return Table(columns, tuple(rows))


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # no minus before nought
