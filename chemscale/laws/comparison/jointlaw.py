"""One law for several groups of runs: nested models, their tests, and how far each group lies from the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

from chemscale.laws.comparison.blocks import Blocks
from chemscale.laws.comparison.contrast import Difference, Multiplier, Ratio, difference, multiplier, ratio
from chemscale.laws.comparison.joint import Pool
from chemscale.laws.comparison.nested import Fitted, Model, Test, fit_joint, likelihood_ratio, refits, simulated
from chemscale.laws.doubt.residuals import freedom
from chemscale.laws.forms import choose
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array
from chemscale.laws.tables.table import Rows

FLOORS = ("free", "tested")
ALIKE = 0.2  # p-value of the floors' test above which `tested` lets groups share one
UNEQUAL = 0.01  # p-value of Bartlett's test under which each group's runs are weighted by its own noise
FAR_OFF = 4.0  # standard deviations from the law at which a run is named


@dataclass(frozen=True)
class JointLaw:
    """What one form says of all groups.

    about: which runs and what against; axes: role -> {"name", "units"}; runs: group -> how many; models: the nested
    ladder; tests between them; chosen: name of the model that differences, ratios and multipliers come from; floor: how
    the floor is treated there and why. differences, ratios, multipliers: each group against the reference (see their
    classes for units). Amplitudes of `models` carry the loss's unit times the axis's to the power of the exponent.
    """

    about: str
    form: str
    equation: str
    axes: dict[str, dict[str, str]]
    runs: dict[str, int]
    models: tuple[Model, ...]
    tests: tuple[Test, ...]
    chosen: str
    floor: str
    differences: tuple[Difference, ...]
    ratios: tuple[Ratio, ...]
    multipliers: tuple[Multiplier, ...]
    warnings: tuple[str, ...]

    def test(self, question: str) -> Test:
        """The test of one question: law, amplitudes, floors, exponents, an exponent's name, "exponents of GROUP"."""
        for found in self.tests:
            if found.question == question:
                return found
        raise ValueError(f"there is no test of {question!r}; there are {', '.join(t.question for t in self.tests)}.")

    def model(self, name: str) -> Model:
        """One model of the ladder."""
        for found in self.models:
            if found.name == name:
                return found
        raise ValueError(f"there is no model {name!r}; there are {', '.join(m.name for m in self.models)}.")

    @property
    def own_floors(self) -> bool:
        """Whether each group has its own floor in the chosen model."""
        form = choose(self.form, tuple(self.axes))
        behind = form.solved_as[form.floor] if form.floor else ()
        return any(name in self.model(self.chosen).free for name in behind)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            **asdict(self),
            "tests": [test.to_json() for test in self.tests],
            "differences": [{**asdict(d), "at_most": d.at_most} for d in self.differences],
        }


def join(
    parts: Mapping[str, Rows], form: Form, about: str, *, shared: Sequence[str], floor: str, level: float,
    bootstrap: int, seed: int,
) -> JointLaw:  # fmt: skip
    """Fit the nested models to each group's runs, the reference first, and measure what differs."""
    blocks = Blocks.of(form, shared)
    pool = Pool.of(form, dict(parts))
    anchors = pool.anchors()
    pool, notes = _weighted(pool, anchors[1])
    rng = np.random.default_rng(seed)
    fits: dict[tuple[str, ...], Fitted] = {}

    def fitted(free: Sequence[str]) -> Fitted:
        nonlocal anchors
        key = tuple(name for name in form.inner if name in free)
        if key not in fits:
            fits[key] = fit_joint(pool, key, anchors)
            anchors = np.concatenate([anchors, fits[key].each[None]])
        return fits[key]

    ladder = blocks.ladder()
    models = tuple(Model.of(name, fitted(free), pool) for name, free in ladder.items())

    def test(question: str, smaller: Sequence[str], larger: Sequence[str]) -> Test:
        return likelihood_ratio(question, fitted(smaller), fitted(larger), pool.clusters, bootstrap, rng)

    tests = [test(*pair) for pair in _questions(blocks)]
    free, words = _chosen(blocks, tests, floor, form.floor in shared)
    single = [name for name in blocks.named if name in blocks.exponents]
    for name in single if len(blocks.exponents) > 1 else ():
        tests.append(test(name, [n for n in free if n != name], free))
    full = fitted(free)
    if full.form.groups > 2 and blocks.exponents:
        for g, name in enumerate(pool.names[1:], start=1):
            tied = fit_joint(pool, free, anchors, [(g, exponent) for exponent in blocks.exponents])
            tests.append(likelihood_ratio(f"exponents of {name}", tied, full, pool.clusters, bootstrap, rng))
    losses = simulated(full, pool.clusters, bootstrap or 400, rng)
    draws = refits(full, losses)
    others = range(1, len(pool.names))
    points = {g: _common(parts, (pool.names[g], pool.names[0]), form.roles) for g in others}
    calibrating = losses if bootstrap else None
    columns, units = (getattr(next(iter(parts.values())), name) for name in ("columns", "units"))
    return JointLaw(
        about, form.name, form.equation, {r: {"name": columns[r], "units": units[r]} for r in form.roles},
        {name: len(part) for name, part in parts.items()}, models, tuple(tests),
        next(name for name, own in ladder.items() if set(own) == set(free)), words,
        tuple(difference(pool, full, g, name, level, calibrating) for g in others for name in blocks.named),
        tuple(ratio(pool, full, draws, g, points[g], level) for g in others),
        tuple(multiplier(pool, full, draws, g, axis, points[g], level) for g in others for axis in form.roles),
        (*notes, *_far_off(pool, full), *_untold(pool, bootstrap)),
    )  # fmt: skip


def _questions(blocks: Blocks) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Question, free parameters of the smaller model, and of the larger one."""
    floor, amplitudes, exponents = blocks.floor, blocks.amplitudes, blocks.exponents
    every = amplitudes + floor + exponents
    nothing: tuple[str, ...] = ()
    out = [("law", nothing, every), ("amplitudes", nothing, amplitudes), ("floors", amplitudes + exponents, every)]
    out.append(("exponents", amplitudes + floor, every))
    if floor:
        out.append(("exponents, floor shared", amplitudes, amplitudes + exponents))
    return [(question, small, large) for question, small, large in out if set(small) != set(large)]


def _chosen(blocks: Blocks, tests: list[Test], floor: str, shared_floor: bool) -> tuple[tuple[str, ...], str]:
    """Free parameters of the model that the differences come from, and what that means for the floor."""
    without = blocks.amplitudes + blocks.exponents
    if not blocks.floor:
        return without, "the floor is shared, as asked" if shared_floor else "the form has no floor"
    p = next(test.p for test in tests if test.question == "floors")
    if floor == "tested" and p > ALIKE and without:
        return without, f"the floor is shared: the test of one floor for all gives p = {p:.2g}, above {ALIKE}"
    return without + blocks.floor, f"each group has its own floor (test of one floor for all: p = {p:.2g})"


def _weighted(pool: Pool, alone: Array) -> tuple[Pool, tuple[str, ...]]:
    """Runs weighted by their group's own noise where Bartlett's test (1937) says that it differs."""
    found = []
    for g, theta in enumerate(alone):
        problem = pool.problem(pool.each, g)
        found.append((2 * float(problem.value(theta[None])[0]) / freedom(problem), freedom(problem)))
    sizes, left = (np.array(column, float) for column in zip(*found, strict=True))
    if sizes.min() <= 0:
        return pool, ()
    together = (left * sizes).sum() / left.sum()
    statistic = left.sum() * np.log(together) - (left * np.log(sizes)).sum()
    statistic /= 1 + ((1 / left).sum() - 1 / left.sum()) / (3 * (len(left) - 1))
    if chi2.sf(statistic, len(left) - 1) > UNEQUAL:
        return pool, ()
    shown = ", ".join(f"{name} {np.sqrt(size):.2%}" for name, size in zip(pool.names, sizes, strict=True))
    return pool.weighted((1 / sizes).tolist()), (
        f"the noise of a run differs by group ({shown}): runs are weighted by it",
    )


def _common(parts: Mapping[str, Rows], pair: tuple[str, str], roles: Sequence[str]) -> dict[str, float]:
    """The largest value of each axis that both groups reach."""
    return {role: float(min(parts[name].axes[role].max() for name in pair)) for role in roles}


def _far_off(pool: Pool, full: Fitted) -> tuple[str, ...]:
    rest = (pool.log_loss - full.fit) * np.sqrt(pool.weights) / full.sigma
    far = np.abs(rest) > FAR_OFF
    if not far.any():
        return ()
    return (
        f"{int(far.sum())} of {len(rest)} runs lie more than {FAR_OFF:.0f} standard deviations off the law; tests and "
        f"intervals assume normal log residuals, so look at these runs first",
    )


def _untold(pool: Pool, bootstrap: int) -> tuple[str, ...]:
    groups = int(pool.clusters.max()) + 1
    if bootstrap or groups == len(pool.x):
        return ()
    return (
        f"with bootstrap=0 the tests take the {len(pool.x)} runs of {groups} clusters as independent, and p-values are "
        f"too small; intervals of differences are widened for clusters, and bootstrap=400 gives p-values that hold",
    )
