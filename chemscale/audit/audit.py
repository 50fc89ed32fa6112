"""The public door: a store or any table in, what a referee would ask of it out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chemscale.audit import design, evaluator, origin, residual, training
from chemscale.audit.claims import claims_of
from chemscale.audit.comparing import Together, compared, comparisons_of, peers_among
from chemscale.audit.convergence import Points, points_of
from chemscale.audit.forecasts import forecasts_of
from chemscale.audit.groups import Group
from chemscale.audit.manifests import manifests_of
from chemscale.audit.spaces import Spaces, spaces_of
from chemscale.audit.subject import Subject, groups_among, is_runs, of_groups, of_table, records
from chemscale.audit.thinning import run_ids_of, said, thinned
from chemscale.audit.values import Audit, Claim, Finding
from chemscale.laws import Law
from chemscale.laws.forms import FORMS, choose
from chemscale.laws.forms.form import axes_named
from chemscale.laws.tables.columns import Columns, read
from chemscale.laws.tables.selection import satisfying
from chemscale.plan import resolved
from chemscale.records.store import Store

CHECKS: tuple[Callable[[Subject], Finding], ...] = (
    *training.CHECKS, *origin.CHECKS, *evaluator.CHECKS, *design.CHECKS, *residual.CHECKS
)  # fmt: skip


def audit(
    what: Any,
    *,
    loss: str | None = None,
    params: str | None = None,
    data: str | None = None,
    seen: str | None = None,
    flops: str | None = None,
    where: str | None = None,
    by: str | None = None,
    form: str | None = None,
    counts: Sequence[str] = (),
    forecasts: Mapping[str, Any] | None = None,
    name: str = "",
) -> Audit:
    """What a referee would ask of runs, and which claims they bear.

    Args:
        what: a store, the path of one, or any table that `fit` takes; of a table of strangers name `loss` and at least
            one of params, data, flops (and seen for form="repeated"). Of a store the loss is each architecture's
            `law_metric` where none is named.
        where: a filter of the rows. by: a column; each of its values is audited by itself.
        form: of the law whose claims are marked; None takes that of `fit`.
        counts: columns that count parameters otherwise.
        forecasts: name -> what `plan.freeze` made before the run, to be scored beside those that a store holds.
        name: what the audit calls it.

    Raises:
        ValueError: no run has finished, a column is missing, or `where` leaves nothing.
    """
    if form is not None and form not in FORMS and form != "auto":
        choose(form, ())
    axes = axes_named(params, data, seen, flops)
    if isinstance(what, str | Path):
        what = Store(what)
    points: Points = {}
    foretold = dict(forecasts or {})
    spaces: Spaces = {}
    if isinstance(what, Store):
        name, table, spaces = name or what.url, what.runs(), spaces_of(what)
        foretold = {**what.forecasts(), **foretold}
        if not len(table):
            raise ValueError(f"{what.url} has no run at all; an audit needs finished ones, so start a sweep first.")
    else:
        table = what
    every = read(table)
    columns = satisfying(every, where)
    if is_runs(columns) and by is None:
        groups = [thinned(group) for group in groups_among(columns, loss)]
        if not groups:
            statuses = sorted({str(status) for status in columns["status"]})
            raise ValueError(
                f"{name or 'the table'} has no finished run ({', '.join(statuses)}); finish a sweep first."
            )
        if isinstance(what, Store):
            points = points_of(what, run_ids_of(groups))
        manifests = manifests_of(groups)
        subjects = of_groups(groups, points, manifests, {}, form=form, axes=axes, counts=counts, spaces=spaces)
    else:
        subjects = of_table(columns, axes, _named(loss, axes, columns), by=by, form=form, counts=counts)
    return of_subjects(subjects, name or "table", compared(subjects), _foretold(foretold, every, columns))


def _foretold(forecasts: Mapping[str, Any], every: Columns, kept: Columns) -> Iterable[Claim]:
    """The claims of the forecasts of runs that the filter kept, and of those that have not started."""
    if not forecasts:
        return ()
    every, kept = (part if "run_id" in part else _numbered(part) for part in (every, kept))
    rows = {row["run_id"]: row for row in records(every)}
    left_out = rows.keys() - set(kept["run_id"])
    told = resolved(forecasts, rows.values())
    return forecasts_of({run: one for run, one in told.items() if run not in left_out}, rows)


def _numbered(columns: Columns) -> Columns:
    """Columns of strangers with a `run_id`, which is all that a row holds."""
    return {**columns, "run_id": [" ".join(map(str, row)) for row in zip(*columns.values(), strict=True)]}


def _named(loss: str | None, axes: Mapping[str, str], columns: Mapping[str, Any]) -> str:
    has = f"the table has {', '.join(columns)}"
    if not axes:
        raise ValueError(f"no axis is named: give at least one of params, data, flops as a column name; {has}.")
    if loss is None:
        raise ValueError(f"loss is not named: give the column of the loss; {has}.")
    return loss


def of_store(
    store: Store,
    groups: Sequence[Group],
    points: Points,
    manifests: Mapping[str, Any],
    laws: Mapping[str, Law],
    together: Sequence[Together] | None = None,
) -> Audit:
    """The audit of what a report has read already: its groups, points, manifests, laws (slug -> law), comparisons."""
    rows = {row["run_id"]: row for group in groups for row in (*group.whole, *group.others)}
    subjects = of_groups(groups, points, manifests, laws, spaces=spaces_of(store))
    together = compared(subjects) if together is None else together
    return of_subjects(subjects, store.url, together, forecasts_of(resolved(store.forecasts(), rows.values()), rows))


def of_subjects(
    subjects: Sequence[Subject], name: str, together: Sequence[Together], foretold: Iterable[Claim] = ()
) -> Audit:
    """Every check and claim of these subjects, alone and together, and claims that were made before any of them."""
    findings: list[Finding] = []
    claims: list[Claim] = []
    for subject in subjects:
        mine = list(_checked(subject))
        findings += mine
        claims += claims_of(subject, mine)
    findings += [origin.alike(other, reference) for reference, *others in peers_among(subjects) for other in others]
    claims += comparisons_of(together, findings)
    notes = said((one.title, len(one.rows), len(one.whole)) for one in subjects)
    return Audit(name, tuple(findings), (*claims, *foretold), notes)


def _checked(subject: Subject) -> Iterable[Finding]:
    if not subject.rows:
        raise ValueError(
            f"{subject.title or 'the table'} has no row with a positive number in each of "
            f"{', '.join([*subject.axes.values(), subject.loss])}; name other columns or filter with where."
        )
    for check in CHECKS:
        yield replace(check(subject), about=subject.title)
