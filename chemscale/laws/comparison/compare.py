"""The public door of comparisons: the same law for several groups of runs, and whether and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from chemscale.laws.comparison.answer import sentence
from chemscale.laws.comparison.blocks import refuse_form
from chemscale.laws.comparison.frontier import COSTS, frontiers
from chemscale.laws.comparison.groups import (
    apart_beside,
    form_for,
    laws_in,
    of_law,
    of_table,
    one_form,
    ordered,
    refuse_apart,
    refuse_unlike,
)
from chemscale.laws.comparison.jointlaw import FLOORS, JointLaw, join
from chemscale.laws.comparison.paired import Paired, paired
from chemscale.laws.doubt.draws import refuse_seed
from chemscale.laws.errors import require_level
from chemscale.laws.forms.form import axes_named

BOOTSTRAP = 400
FEWEST_DRAWS = 99  # under which no p-value below 0.01 can be seen


@dataclass(frozen=True)
class Comparison:
    """Groups of runs against a reference group.

    by: the column that separates them; groups: the reference first; loss: {"name", "units"}; level of every interval.
    law: the joint law against params, data or both, over all runs; along: joint laws of one axis along the efficient
    frontier, of FLOPs and of device-seconds where the table has them. paired: the first look, one per group.
    sentences: one per group and law, the first of them answers whether the group changes the exponent.
    """

    by: str
    groups: tuple[str, ...]
    loss: dict[str, str]
    level: float
    law: JointLaw
    along: tuple[JointLaw, ...]
    paired: tuple[Paired, ...]
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def reference(self) -> str:
        """The group that the others are measured against."""
        return self.groups[0]

    @property
    def sentence(self) -> str:
        """Whether the group changes the exponent or only the constant, with numbers; a sentence per group."""
        return " ".join(self.sentences[: len(self.groups) - 1])

    def to_json(self) -> dict[str, Any]:
        """The object of `chemscale compare`.

        {"by", "reference", "groups", "loss": {"name", "units"}, "level", "sentence", "sentences", "law", "along":
        [law...], "paired": [...], "warnings", "error": null, "provenance"}; the keys of a law are the fields of
        `JointLaw` and those of a paired look the fields of `Paired`. null is what the runs do not say.
        """
        return {
            "by": self.by, "reference": self.reference, "groups": list(self.groups), "loss": self.loss,
            "level": self.level, "sentence": self.sentence, "sentences": list(self.sentences),
            "law": self.law.to_json(), "along": [law.to_json() for law in self.along],
            "paired": [asdict(look) for look in self.paired], "warnings": list(self.warnings), "error": None,
            "provenance": self.provenance,
        }  # fmt: skip


def compare(
    *given: Any,
    by: str = "architecture",
    loss: str | None = None,
    params: str | None = None,
    data: str | None = None,
    seen: str | None = None,
    flops: str | None = None,
    where: str | None = None,
    form: str | None = None,
    shared: Sequence[str] = (),
    floor: str = "free",
    noise_floor: float = 0.0,
    reference: Any = None,
    level: float = 0.95,
    bootstrap: int = BOOTSTRAP,
    seed: int = 0,
) -> Comparison:
    """Fit the same law to several groups of runs and test what differs; returns a `Comparison`.

    given: one table, as for `fit`, whose column `by` names the groups; or fitted laws, each a group, as arguments or as
        the dict of `fit(..., by=...)`. Laws bring their runs, axes and form, and are refitted together by least squares
        on log residuals, the likelihood of log-normal noise, whatever their objective was
    loss, params, data, flops, where: columns and filter of a table, as for `fit`; flops beside params or data is the
        cost of the efficient frontier, which a runs table brings by itself
    form: any but bnsl (see `comparison.blocks`); by default chinchilla over params and data, repeated where seen is
        named, over one axis power_floor, or power where a group has fewer than six values of it
    seen: column of the units seen, repeats counted, for form="repeated"
    noise_floor: as for `fit`: no group's floor lies below it; laws bring their own
    shared: parameters held equal for all groups (an amplitude at the geometric mean of all runs, where its exponent is
        free); sharing what is the same narrows the intervals of what is not
    floor: "free" gives each group its own floor; "tested" lets them share one where the test of one floor gives
        p > 0.2, which narrows the intervals but trusts a test of little power: floors that differ by a few per cent
        often pass it and then show as a difference of exponents (`tests/benchmarks/compare.py --only floor`)
    reference: the group that others are measured against; by default the first
    bootstrap: draws for p-values, fewer where p is plainly above 0.05 (see `comparison.nested`), and for the
        calibration of intervals at `level`; 0 takes F and chi-square alone

    Raises ValueError for the caller's mistakes (one group, too few runs in one, losses of different kinds, ranges that
    do not overlap) and FitError where a group's axes cannot be told apart.
    """
    _refuse(level, bootstrap, floor, seed)
    refuse_form(form or "")
    costs = dict(COSTS)
    laws = laws_in(given)
    if laws:
        groups, chosen = {name: of_law(law) for name, law in laws.items()}, form or one_form(laws)
        by, notes = "law", ()
    else:
        if len(given) != 1 or loss is None:
            raise ValueError("compare needs one table with loss=COLUMN, or two or more laws.")
        axes = axes_named(params, data, seen, flops)
        if len(axes) > 1 and flops:
            costs = {axes.pop("flops"): "FLOPs", "device_seconds": COSTS["device_seconds"]}
        groups, notes = of_table(given[0], by, loss, axes, where, form, noise_floor)
        chosen = form
    names = ordered(tuple(groups), reference, by)
    groups = {name: groups[name] for name in names}
    refuse_unlike(groups, by)
    parts = {name: group.runs for name, group in groups.items()}
    shape = form_for(chosen, parts)
    refuse_apart(parts, shape, by)
    settings = {"floor": floor, "level": level, "bootstrap": int(bootstrap), "seed": seed}
    law = join(parts, shape, "all runs", shared=shared, **settings)
    along, skipped = frontiers(groups, costs, settings) if "flops" not in shape.roles else ((), ())
    first = parts[names[0]]
    metric, units = first.columns["loss"], first.units["loss"]
    columns = {role: first.columns[role] for role in shape.roles}
    others = [(name, groups[name].columns) for name in names[1:]]
    looks = tuple(paired(*own, names[0], groups[names[0]].columns, columns, metric, level) for own in others)
    sentences = tuple(
        sentence(one, name, metric, level, {role: axis["units"] for role, axis in one.axes.items()})
        for one in (law, *along)
        for name in names[1:]
    )
    return Comparison(
        by, names, {"name": metric, "units": units}, level, law, along, looks, sentences,
        (*notes, *apart_beside(groups, shape, by), *law.warnings, *skipped),
        {**settings, "shared": list(shared), "where": where},
    )  # fmt: skip


def _refuse(level: float, bootstrap: int, floor: str, seed: int) -> None:
    require_level(level)
    if bootstrap < 0 or bootstrap != int(bootstrap) or 0 < bootstrap < FEWEST_DRAWS:
        raise ValueError(f"bootstrap={bootstrap!r} must be 0 or a whole number of at least {FEWEST_DRAWS} draws.")
    refuse_seed(seed)
    if floor not in FLOORS:
        raise ValueError(f"floor={floor!r} is not one of {', '.join(FLOORS)}.")
