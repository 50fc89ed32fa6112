"""What a study would cost whose data are not here yet: another source's alphabet and lengths stand in for theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from chemscale import data
from chemscale.data.sources import resolve
from chemscale.spec import Budget, Data, Optim, RunSpec
from chemscale.sweep.estimate import SECONDS_PER_RUN, CellCost, costs, measured_examples
from chemscale.sweep.gpus import Assumed
from chemscale.sweep.memory import micro_batch_of
from chemscale.sweep.placement import On, resources_for
from chemscale.train.complete import complete

BATCH, EXAMPLES = 16, 1_000  # of the runs that are counted in place of others


@dataclass(frozen=True)
class Planned:
    """What a recipe says for `chemscale show` of a study that is larger than the machine at hand.

    Args:
        like: source whose alphabet and lengths stand in for the recipe's while that is not here.
        whole: examples of the recipe's whole training split, for runs with an open `data.size`.
        on: the GPUs whose hours and price are told.
    """

    like: str
    whole: int | None = None
    on: Assumed = field(default_factory=Assumed)


def absent(runs: Sequence[RunSpec]) -> str | None:
    """The first source of these runs that is neither known nor a file here."""
    for source in dict.fromkeys(run.data.source for run in runs):
        try:
            resolve(source)
        except ValueError:
            return source
    return None


def costs_like(runs: Sequence[RunSpec], source: str, on: On | None = None, whole: int | None = None) -> list[CellCost]:
    """The cost of runs as if their examples were those of `source`, whatever their number.

    Non-embedding parameters and updates are exact; FLOPs and times are those of the other examples' mean length. Runs
    of one model are counted and timed once, with one example on each worker and with sixteen.

    Args:
        source: a known name or a file; built where it is not.
        whole: examples that a run with an open `data.size` will have; None: as many as `source`.

    Raises:
        ValueError: the source is of another family, or unknown.
    """
    held = {kind: data.build(source, representation=kind).counts["train"] for kind in {*map(_representation, runs)}}
    meant: dict[tuple[object, ...], RunSpec] = {_alike(run, on): run for run in runs}
    near, places = [], {}
    for number, run in enumerate(meant.values()):
        place = resources_for(on, run)
        for batch in (place.workers, BATCH * place.workers):  # one for each worker, and sixteen
            near.append(_near(run, source, held[_representation(run)], batch, number))
            places[near[-1].id] = replace(place, micro_batch=BATCH)
    # All at once, so that the largest models are reckoned at the pace of those that could be timed.
    counted = costs(near, lambda run: places[run.id])
    found = dict(zip(meant, zip(counted[::2], counted[1::2], strict=True), strict=True))
    return [
        _stretched(run, *found[_alike(run, on)], micro_batch_of(run, resources_for(on, run)),
                   whole or held[_representation(run)])
        for run in runs
    ]  # fmt: skip


def _alike(run: RunSpec, on: On | None) -> tuple[object, ...]:
    """What runs have in common that are counted and timed once."""
    return run.model, run.objective, run.precision, run.evaluation, _representation(run), resources_for(on, run)


def _representation(run: RunSpec) -> str:
    return run.data.representation


def _near(run: RunSpec, source: str, held: int, batch: int, seed: int) -> RunSpec:
    """A run of the same model that can be counted here; its seed sets it apart from others."""
    stand_in = Data(source, size=min(EXAMPLES, held), representation=run.data.representation)
    optim = Optim(lr=run.optim.lr, batch=batch)  # a family without a rule has no other rate
    return complete(replace(run, data=stand_in, optim=optim, budget=Budget(epochs=1), init_from=None, seed=seed))


def _stretched(run: RunSpec, one: CellCost, several: CellCost, micro: int, whole: int) -> CellCost:
    """The cell for the run's own examples and batch: work is in proportion, memory a constant and a part for each."""
    size = run.data.size or whole
    optim = replace(run.optim, lr=run.optim.lr or several.run.optim.lr)
    data_meant = replace(several.run.data, source=run.data.source, size=size, key=run.data.key, content=None)
    meant = replace(several.run, data=data_meant, optim=optim, budget=run.budget, seed=run.seed)
    share = meant.examples / several.run.examples
    each = (several.memory - one.memory) / (BATCH - 1)
    looks = [max(1, measured_examples(r.evaluation, 0)) for r in (meant, several.run)]
    measuring = several.measuring * looks[0] / looks[1]
    return replace(
        several, run=meant, updates=meant.updates, flops=several.flops * share, memory=one.memory + (micro - 1) * each,
        seconds=(several.seconds - several.measuring - SECONDS_PER_RUN) * share + measuring + SECONDS_PER_RUN,
        measuring=measuring,
    )  # fmt: skip
