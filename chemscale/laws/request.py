"""What a call of `fit` asks for, checked, and the runs that it makes of a table's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chemscale.laws.backtests.trials import Tried, ask, attempt
from chemscale.laws.backtests.weighting import refuse_unknown, weighted
from chemscale.laws.doubt.censor import refuse_bounds
from chemscale.laws.doubt.counts import counts_beside
from chemscale.laws.doubt.draws import refuse_seed
from chemscale.laws.doubt.identify import usual_form
from chemscale.laws.doubt.intervals import choose_method
from chemscale.laws.errors import require_level
from chemscale.laws.forms import FORMS, choose
from chemscale.laws.forms.form import ROLES, Form
from chemscale.laws.objectives import Objective
from chemscale.laws.tables.columns import Columns
from chemscale.laws.tables.copies import without_copies
from chemscale.laws.tables.meaning import data_of, refuse_shared, with_epochs, within_first_pass
from chemscale.laws.tables.stopped import stopped
from chemscale.laws.tables.table import Rows, rows

FEWEST_DRAWS, MOST_DRAWS = 20, 100_000  # the ends of a 95 % interval of so many have long settled


@dataclass(frozen=True)
class Request:
    """The keywords of `fit`, as there; `given` maps axes to columns, `settings` are those that a law's record keeps."""

    form: str | None
    given: dict[str, str]
    loss: str
    epochs: str | None
    goal: Objective
    weights: str | None
    censored: str | None
    cluster: str | None
    noise_floor: float
    level: float
    hold_out: str | float | None
    along: str | None
    counts: tuple[str, ...]
    settings: dict[str, Any]

    def refuse(self, draws: float) -> None:
        """Raise ValueError for what no table could be fitted with."""
        require_level(self.level)
        if draws != int(draws) or not (draws == 0 or FEWEST_DRAWS <= draws <= MOST_DRAWS):
            raise ValueError(
                f"bootstrap={draws!r} must be 0 or a whole number of {FEWEST_DRAWS} to {MOST_DRAWS} draws; 1000 is a "
                "good one."
            )
        refuse_seed(self.settings["seed"])
        if self.form is not None and self.form not in FORMS and self.form != "auto":
            choose(self.form, ())
        choose_method(self.settings["interval"], 1, int(draws))
        floor = self.noise_floor
        if not (np.isfinite(floor) and floor >= 0):
            raise ValueError(f"noise_floor={floor!r} must be zero or a positive number in the unit of the loss.")
        self._refuse_floor(self.form)

    def _refuse_floor(self, form: str | None) -> None:
        if self.noise_floor and form in FORMS and FORMS[form].floor is None:
            raise ValueError(
                f"noise_floor={self.noise_floor!r} bounds a floor, and form={form!r} has none; use power_floor."
            )

    def shape(self, runs: Rows, roles: tuple[str, ...]) -> Form:
        """The form that is asked for, or the usual one of these axes."""
        name = self.form or usual_form({role: runs.axes[role] for role in roles})
        self._refuse_floor(name)
        return choose(name, roles)

    def prepared(self, notes: tuple[str, ...], part: Columns) -> tuple[Rows, tuple[str, ...], Mapping[str, Any]]:
        """The runs of some of the table's rows, their axes, and columns that count parameters otherwise."""
        part, named = with_epochs(part, self.given, self.epochs) if self.epochs else (part, self.given)
        roles = axes_of(part, self.form, named, self.loss)
        copied: tuple[str, ...] = ()
        if self.censored is None:  # bounds of runs that one rule stopped may well be equal
            part, copied = without_copies(part, roles, self.loss)
        by_column = self.weights if self.weights in part else None
        kept = stopped(part, self.loss, self.censored)
        said = (*notes, *copied, *kept.notes, *within_first_pass(kept.columns, roles))
        runs = rows(kept.columns, roles, self.loss, by_column, said, self.cluster, self.noise_floor)
        runs = replace(runs, censored=kept.bounds, imputed=kept.imputed)
        refuse_bounds(self.goal, runs)
        if self.weights and not by_column:
            refuse_unknown(self.weights, part)
            runs = weighted(runs, self.weights, self.along)
        return runs, tuple(roles), counts_beside(part, roles, self.counts)

    def tried(self, runs: Rows, roles: tuple[str, ...]) -> Tried:
        """Every form that can take the axes, put to the backtest that is asked for."""
        return attempt(runs, roles, self.goal, ask(runs, self.hold_out, self.along))


def axes_of(columns: Columns, form: str | None, given: Mapping[str, str], loss: str) -> dict[str, str]:
    """Axis -> column, in the order of `ROLES`: those given, and of a runs table those that the form must have.

    A form that can take several axes gets params and data of a runs table where none is given. Where no form is asked
    for, seen means repeated, and params or data alone mean chinchilla of a table that has the other.
    """
    roles = dict(given)
    if form is None:
        form = "repeated" if "seen" in given else "power" if "flops" in given else "chinchilla"
    kind = FORMS.get(form)
    several = not given and "run_id" in columns and (kind is None or 2 in kind.axes)
    unique = data_of(columns, loss)
    defaults = {"data": unique, "seen": f"{roles.get('data', unique)}_seen"}
    for role in ("params", "data") if several else getattr(kind, "fixed_roles", ()):
        default = defaults.get(role, role)
        if role not in roles and default in columns:
            roles[role] = str(default)
    if not roles:
        raise ValueError("no axis is named: give at least one of params, data, flops as a column name.")
    refuse_shared({**roles, "loss": loss})
    return {role: roles[role] for role in ROLES if role in roles}
