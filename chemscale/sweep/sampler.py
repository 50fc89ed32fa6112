"""What Optuna and Ray lack for a search that survives its driver: finished trials replayed, interrupted ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from chemscale.sweep.search import Choice, Domain, LogUniform, Search


def optuna_searcher(search: Search, finished: Sequence[tuple[Mapping[str, Any], float]]) -> OptunaSearch:
    """Ray's Optuna searcher for a search, told of the (values, valid loss) that the store already holds."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {
        "tpe": lambda: optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=search.seed),
        "random": lambda: optuna.samplers.RandomSampler(seed=search.seed + len(finished)),
    }
    sampler = samplers[search.sampler]() if isinstance(search.sampler, str) else search.sampler
    space = {name: _distribution(domain) for name, domain in search.space.items()}
    searcher = OptunaSearch(space=space, metric="valid_loss", mode="min", sampler=sampler)
    for values, loss in finished:
        searcher.add_evaluated_point(dict(values), loss)
    return searcher


def _distribution(domain: Domain) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.values)
    return FloatDistribution(domain.low, domain.high, log=isinstance(domain, LogUniform))


class Resuming(Searcher):
    """Gives the points that a killed driver left unfinished before it asks another searcher for new ones.

    Args:
        inner: the searcher that proposes new points and learns from all of them.
        first: points to run again; their runs go on from their checkpoints.
    """

    def __init__(self, inner: Any, first: Sequence[Mapping[str, Any]]):
        super().__init__(metric="valid_loss", mode="min")
        self._inner, self._first = inner, [dict(values) for values in first]
        self._ours: dict[str, dict[str, Any]] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if not self._first:
            return self._inner.suggest(trial_id)
        self._ours[trial_id] = self._first.pop(0)
        return dict(self._ours[trial_id])

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id not in self._ours and "valid_loss" in result:
            self._inner.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        loss = (result or {}).get("valid_loss")
        if trial_id not in self._ours:
            self._inner.on_trial_complete(trial_id, result if loss is not None else None, error or loss is None)
        elif loss is not None and not error:
            self._inner.add_evaluated_point(self._ours[trial_id], loss)

    def save(self, checkpoint_path: str) -> None:
        """The store is what a search resumes from; Tune's snapshot of a searcher is not read."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""
