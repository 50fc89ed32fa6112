"""What the residuals of a law still hold: other settings that explain them, and neighbours that move together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from scipy.stats import kruskal

from chemscale.audit.subject import Subject, positive_number
from chemscale.audit.values import CANNOT_TELL, CONCERN, FINE, Finding
from chemscale.laws.doubt.residuals import residuals
from chemscale.laws.readings.slopes import levels

MOST_VALUES = 20  # different values up to which a column is a setting
OUTCOMES = (
    "loss",
    "error",
    "mae",
    "rmse",
    "acc",
    "perplex",
    "nats",
    "score",
    "bpb",
    "_se",
    "second",
    "joule",
    "flop",
    "time",
)
RUN_FACTS = ("run_id", "spec", "studies", "versions", "status", "stop_reason", "host", "attempt", "started", "ended")
BINS = 6  # of a setting with more values than that
PRODUCT = 0.01  # share of a column's variance that is its own, below which it is a product of the axes
CHANCE = 0.01  # of naming a setting that explains nothing, over all that are tried
SHARE = 0.1  # of the residuals' variation, in ranks, that a setting must explain to be named
NEIGHBOURS = 10  # pairs that a correlation is read from
ALONG = 0.3  # correlation of neighbouring residuals that matters
NORMAL_99 = 2.6

OTHER = "Does anything beside the axes move the loss?"
APART = "Are the errors of different runs independent?"


def settings(subject: Subject) -> Finding:
    """Whether a column that no axis knows of explains what the law leaves over (Kruskal-Wallis test of residuals)."""
    law = subject.law
    if law is None:
        return Finding("settings", OTHER, CANNOT_TELL, subject.lawless, "a law that fits")
    off = residuals(law.problem, law.solution.theta)
    tried = dict(settings_of(subject))
    named, numbers = [], {}
    for name, labels in tried.items():
        parts = [off[labels == value] for value in np.unique(labels)]
        found = kruskal(*parts)
        share = (float(found.statistic) - len(parts) + 1) / (len(off) - len(parts))
        numbers[name] = {"p": float(found.pvalue), "share": share}
        if found.pvalue < CHANCE / len(tried) and share > SHARE:
            medians = [float(np.median(part)) for part in parts]
            named.append((share, name, max(medians) - min(medians)))
    if named:
        named.sort(reverse=True)
        told = "; ".join(f"{n} explains {s:.0%} of the residuals (up to {gap:.1%} of the loss)" for s, n, gap in named)
        return Finding(
            "settings",
            OTHER,
            CONCERN,
            told,
            f"a law for each value (--by {named[0][1]}), or an axis of its own",
            numbers,
        )
    told = f"none of {', '.join(tried)} explains the residuals" if tried else "nothing else varies that could be tested"
    return Finding("settings", OTHER, FINE if tried else CANNOT_TELL, told, "", numbers)


def settings_of(subject: Subject) -> Iterable[tuple[str, np.ndarray]]:
    """Columns that vary beside the axes and that the axes do not decide, as labels (n,); many numbers are binned."""
    axes = {name: levels(np.array(subject.values(name))) for name in subject.places.values()}
    logs = np.column_stack([np.ones(len(subject.rows)), np.log(subject.runs.stacked(subject.roles))])
    for name in subject.rows[0]:
        if name in axes or name == subject.loss or name in RUN_FACTS or any(w in name.lower() for w in OUTCOMES):
            continue
        labels = _labels(subject.values(name), logs)
        if labels is not None and not any(_decides(axis, labels) for axis in axes.values()):
            yield name, labels


def _labels(values: list[object], logs: np.ndarray) -> np.ndarray | None:
    """Number of each value, or of its sixth among many numbers; None for what is no setting, or a product of axes."""
    if any(isinstance(v, list | dict | tuple) for v in values):
        return None
    labels = np.unique([str(v) for v in values], return_inverse=True)[1]
    count = int(labels.max()) + 1
    if all(positive_number(v) and not isinstance(v, str) for v in values):
        numbers = np.log(np.array(values, float))
        rest = numbers - logs @ np.linalg.lstsq(logs, numbers, rcond=None)[0]
        if count < 2 or count == len(values) or rest.var() < PRODUCT * numbers.var():
            return None
        if count > MOST_VALUES:
            edges = np.quantile(numbers, np.arange(1, BINS) / BINS)
            return np.unique(np.searchsorted(edges, numbers), return_inverse=True)[1]
    return labels if 2 <= count <= min(MOST_VALUES, len(values) // 3) else None


def _decides(axis: np.ndarray, labels: np.ndarray) -> bool:
    """Whether a level of the axis has one value of the setting."""
    return len(set(zip(axis.tolist(), labels.tolist(), strict=True))) == len(set(axis.tolist()))


def correlated(subject: Subject) -> Finding:
    """Whether runs share a subset or trunk, and whether neighbours along an axis err together."""
    law = subject.law
    if law is None:
        return Finding("correlated", APART, CANNOT_TELL, subject.lawless, "a law that fits")
    groups = int(law.runs.clusters.max()) + 1
    count = len(subject.rows)
    shared = f"{count} runs lie in {groups} clusters, which intervals draw together" if groups < count else ""
    left, right = _neighbours(subject, residuals(law.problem, law.solution.theta))
    numbers: dict[str, float] = {"clusters": groups, "pairs": len(left)}
    if len(left) >= NEIGHBOURS and np.ptp(left) > 0 and np.ptp(right) > 0:
        together = float(np.corrcoef(left, right)[0, 1])
        numbers["neighbours"] = together
        told = f"residuals of neighbouring runs correlate at {together:.2f} over {len(left)} pairs"
        if together > max(ALONG, NORMAL_99 / len(left) ** 0.5):
            stored = subject.group is not None  # of a run that is one row, with its cluster
            causes = "a shared subset" if stored else "points of one curve, a shared subset"
            why = f"{told}: {causes}, or a form that bends the wrong way"
            settle = ("" if stored else "one row per run with a column `cluster`, or ") + "another form (--form auto)"
            return Finding("correlated", APART, CONCERN, why, settle, numbers)
        return Finding("correlated", APART, FINE, "; ".join(filter(None, [shared, told])), "", numbers)
    if shared:
        return Finding("correlated", APART, FINE, shared, "", numbers)
    told = "no column `cluster` says which runs share a subset or a trunk, and too few runs are neighbours to see it"
    return Finding("correlated", APART, CANNOT_TELL, told, "a column `cluster`", numbers)


def _neighbours(subject: Subject, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of runs next to each other along an axis, the other axes at one level; in ranks."""
    ranks = np.argsort(np.argsort(off)).astype(float)
    numbers = {name: levels(np.array(subject.values(name), float)) for name in subject.places.values()}
    pairs: list[tuple[int, int]] = []
    for name in numbers:
        lines = defaultdict(list)
        for i in range(len(off)):
            lines[tuple(n[i] for other, n in numbers.items() if other != name)].append(i)
        for line in lines.values():
            line.sort(key=lambda i, n=numbers[name]: n[i])
            pairs += [(a, b) for a, b in pairwise(line) if numbers[name][a] != numbers[name][b]]
    index = np.array(pairs, int).reshape(-1, 2)
    return ranks[index[:, 0]], ranks[index[:, 1]]


CHECKS = (settings, correlated)
