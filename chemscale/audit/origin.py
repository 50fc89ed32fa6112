"""Where losses come from: splits that must not leak, yardsticks that must be one, the noise of labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from chemscale.audit.subject import Subject
from chemscale.audit.training import cells_of, trials_of, varied
from chemscale.audit.values import CANNOT_TELL, CONCERN, FINE, Finding, joined, plural
from chemscale.laws.tables.columns import number
from chemscale.laws.tables.meaning import COUNTED, rules_of

SHORT = 10  # characters of a commit that people read
NEAR_NOISE = 3.0  # times the label noise; a loss within it is a tenth noise in quadrature
ONE = ("optimiser", "law_rule", "precision", "data_source", "data_content", "law_metric", "architecture")

LEAK = "Can anything of the test set have been seen?"
MIXED = "Are metric, precision, data and code one?"
FLOOR = "Are losses far above the noise of their labels?"
ALIKE = "Were the architectures treated alike?"


def leakage(subject: Subject) -> Finding:
    """What the records say of splits: one test set, chosen on another split, subsets that nest."""
    if subject.group is None:
        return _leakage_of_table(subject)
    rows = subject.whole
    tests = {row["test_checksum"] for row in rows if row["test_checksum"]}
    numbers: dict[str, Any] = {
        "test_sets": len(tests), "subset_keys": len({row["subset_key"] for row in rows}),
        "splits": dict(getattr(subject.manifest, "counts", {}) or {}),
    }  # fmt: skip
    faults = [*_faults(subject), *_overlapping(subject)]
    if subject.overlap is not None:
        numbers["overlap"] = {f"{one} in {other}": n for (one, other), n in subject.overlap.shared.items()}
    if len(tests) > 1:
        faults.append(f"{len(tests)} different test sets share the law")
    if faults:
        settle = "test losses on one test set that chose nothing and of which nothing is trained on"
        return Finding("leakage", LEAK, CONCERN, "; ".join(faults), settle, numbers)
    if len(tests) != 1 or any(not row["test_checksum"] for row in rows):
        told = "runs without a checksum of their test set"
        return Finding("leakage", LEAK, CANNOT_TELL, told, "runs of a version that writes test_checksum", numbers)
    orders = plural(numbers["subset_keys"], "order")
    told = f"one data set, one test set of {rows[0]['test_examples']} examples, subsets nested in {orders}"
    told += (
        f"; splits by group ({', '.join(f'{n} {s}' for s, n in numbers['splits'].items())})"
        if numbers["splits"]
        else ""
    )
    told += (
        "; on disk no held-out example is trained on, and no group lies in two splits"
        if subject.overlap is not None
        else "; its examples are not on this machine, so none was looked for in two splits"
    )
    return Finding("leakage", LEAK, FINE, told, "", numbers)


def _overlapping(subject: Subject) -> Iterable[str]:
    """Examples and groups that the splits of the data on disk share, by the hash of what they hold."""
    if subject.overlap is None:
        return
    for (one, other), count in subject.overlap.shared.items():
        if count:
            whole = subject.overlap.counts[one]
            yield f"{count:,} of {whole:,} {one} examples on disk are {other} examples too ({count / whole:.2%})"
    if subject.overlap.groups:
        yield f"{plural(subject.overlap.groups, 'group')} of the data on disk lie in more than one split"


def _faults(subject: Subject) -> Iterable[str]:
    name = "valid_loss"
    if all(number(row.get(name)) == float(row[subject.loss]) for row in subject.whole):
        yield f"{name} equals {subject.loss} in every run: the split that chose is the split that judges"
    group = subject.group
    if group is not None and group.searched and any(row["valid_loss"] is None for row in subject.whole):
        yield f"{group.searched} trials were chosen on the test loss, for want of a validation loss"


def _leakage_of_table(subject: Subject) -> Finding:
    faults = list(_faults(subject))
    settle = "checksums of the test set and of the data, and the split on which rates were chosen"
    if faults:
        return Finding("leakage", LEAK, CONCERN, "; ".join(faults), settle)
    return Finding("leakage", LEAK, CANNOT_TELL, "the table does not say how its splits were made", settle)


def mixed(subject: Subject) -> Finding:
    """Whether one law joins runs of different optimisers, rules, data or code."""
    several = {name: sorted({str(v) for v in subject.all_values(name) if v is not None}) for name in ONE}
    several["commit"] = _commits(subject)
    several[COUNTED] = sorted(map(str, rules_of(subject.all_values(COUNTED))))
    several = {name: values for name, values in several.items() if len(values) > 1}
    numbers = {"columns": several}
    code = several.pop("commit", []) if _one_code(subject, several.get("commit", [])) else []
    if several:
        told = "; ".join(f"{len(v)} values of {name} ({', '.join(v[:3])})" for name, v in several.items())
        return Finding("mixed", MIXED, CONCERN, told, "a law for each, or runs made alike", numbers)
    known = [name for name in ("law_metric", "precision", "data_source") if subject.has(name)]
    if not known:
        return Finding("mixed", MIXED, CANNOT_TELL, "the table names no metric, precision or data", "such columns")
    told = f"all of {joined([str(subject.rows[0][name]) for name in known])}"
    told += (
        f"; {len(code)} commits ({', '.join(code)}) that share spec_version, which rises when code changes numbers"
        if code
        else ""
    )
    return Finding("mixed", MIXED, FINE, told, "", numbers if code else {})


def _commits(subject: Subject) -> list[str]:
    """Commits of the runs, short; "+" marks changes that were not committed."""
    found = {str(_fields(text).get("commit") or "") for text in set(map(str, subject.all_values("versions")))}
    return sorted(c[:SHORT] + "+" * c.endswith("+") for c in found if c)


def _fields(text: str) -> dict[str, Any]:
    """The object that a text is in JSON; nothing where it is none, as in tables of strangers."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _one_code(subject: Subject, commits: Sequence[str]) -> bool:
    """Whether the specs say that no code between these commits changed a number."""
    versions = {_fields(text).get("spec_version") for text in set(map(str, subject.all_values("spec")))}
    return len(versions) == 1 and None not in versions and not any(commit.endswith("+") for commit in commits)


def noise(subject: Subject) -> Finding:
    """Whether the best losses are near the noise of the labels, where their excess is no longer a power."""
    best = min(float(v) for v in subject.all_values(subject.loss))
    numbers: dict[str, Any] = {"best": best}
    if subject.group is not None and subject.group.family == "text":
        told = "labels are the text itself; the floor is its entropy"
        return Finding("noise floor", FLOOR, FINE, told, "", numbers)
    found = dict(getattr(subject.manifest, "label_noise", None) or {}).get(subject.loss)
    if not isinstance(found, int | float) or not found > 0:
        told, settle = "the noise of the labels is not known here", "some labels made twice, on the machine of the data"
        return Finding("noise floor", FLOOR, CANNOT_TELL, told, settle, numbers)
    near = sum(float(v) < NEAR_NOISE * found for v in subject.all_values(subject.loss))
    numbers |= {"noise": found, "near": near}
    told = f"the best loss is {best / found:,.1f} times the label noise ({found:.3g}); "
    told += f"{plural(near, 'run') if near else 'no run'} within {NEAR_NOISE:g} times"
    if near:
        return Finding("noise floor", FLOOR, CONCERN, told, "a floor in quadrature, or better labels", numbers)
    return Finding("noise floor", FLOOR, FINE, told, "", numbers)


def against(group: Subject, reference: Subject) -> str:
    """How a comparison of two sets of runs is called."""
    return f"{group.title} against {reference.title}"


def alike(group: Subject, reference: Subject) -> Finding:
    """Whether two that are compared had the same test set, trials, fields searched and subsets."""
    about = against(group, reference)
    faults = list(_unlike(group, reference))
    sizes = _sizes(group) & _sizes(reference)
    numbers = {"shared_sizes": sorted(sizes)}
    if faults:
        settle = "the same searches, subsets and test set for both"
        return Finding("alike", ALIKE, CONCERN, "; ".join(faults), settle, numbers, about)
    common = f"{plural(len(sizes), 'size')} of data in common" if sizes else "no axis of data"
    if not all(one.rows[0].get("test_checksum") for one in (group, reference)):
        told = f"equal trials, {common}, but no `test_checksum` says that one test set judged both"
        return Finding("alike", ALIKE, CANNOT_TELL, told, "a column `test_checksum`", numbers, about)
    return Finding("alike", ALIKE, FINE, f"one test set, equal trials, {common}", "", numbers, about)


def _sizes(subject: Subject) -> set[float]:
    return set(subject.all_values(subject.axes["data"])) if "data" in subject.axes else set()


def _unlike(a: Subject, b: Subject) -> Iterable[str]:
    tests = [{row["test_checksum"] for row in s.whole if row.get("test_checksum")} for s in (a, b)]
    if tests[0] and tests[1] and tests[0] != tests[1]:
        yield "different test sets"
    trials = [sorted({trials_of(cell) for cell in cells_of(s)}) for s in (a, b)]
    if trials[0] != trials[1]:
        yield f"{_range(trials[0])} per cell against {_range(trials[1])} per cell"
    fields = [{name for cell in cells_of(s) for name in varied(cell)} for s in (a, b)]
    if fields[0] != fields[1]:
        shown = [", ".join(sorted(names)) or "nothing" for names in fields]
        yield f"searched over {shown[0]} against {shown[1]}"
    if "data" in a.axes and not _sizes(a) & _sizes(b):
        yield "no size of data in common"
    keys = [set(s.all_values("subset_key")) for s in (a, b)]
    if not keys[0] & keys[1]:
        yield "no subset in common"


def _range(counts: Sequence[int]) -> str:
    return plural(counts[0], "trial") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} trials"


CHECKS = (leakage, mixed, noise)
