"""Samplers by name, and what Ray's searchers lack: points of a conditional space replayed from the store."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from chemscale.sweep.search import Search
from chemscale.sweep.space import Choice, Domain, Integers, LogUniform, Space, When

STUDY = "cell"
PLAIN = (type(None), bool, int, float, str)  # what Optuna keeps as the values of a category


class Asked:
    """Proposes points for one cell and learns how they ended: Optuna through Ray's adapter, or a searcher of Ray's.

    Args:
        search: its space, sampler and objectives.
        made: points that an earlier driver has proposed already; a fresh random sequence must not repeat them.
    """

    def __init__(self, search: Search, made: int):
        self._space, self._objectives = search.choices, list(search.objectives)
        self._study: optuna.Study | None = None
        if isinstance(search.sampler, Searcher):
            self._searcher: Searcher = copy.deepcopy(search.sampler)
            self._searcher.set_search_properties("valid_loss", "min", tune_space(self._space))
        else:
            self._study, self._searcher = _optuna(search, made)

    def ask(self, key: str) -> dict[str, Any] | str | None:
        """A point; None where the searcher waits for results, `Searcher.FINISHED` where it has no more."""
        found = self._searcher.suggest(key)
        if not isinstance(found, Mapping):
            return found
        return {field: found[field] for field in self._space.order if field in found}

    def result(self, key: str, result: Mapping[str, Any]) -> None:
        """A measurement on the way; Optuna learns from ends alone."""
        if self._study is None:
            self._searcher.on_trial_result(key, dict(result))

    def end(self, key: str, losses: Sequence[float] | None, *, failed: bool) -> None:
        """How a point that `ask` gave ended; no losses and not failed: it diverged, and is worse than all others."""
        told = None if losses is None else dict(zip(self._objectives, losses, strict=True))
        if told is None and self._study is not None and len(self._objectives) > 1:
            failed = True  # Optuna prunes with one objective only
        self._searcher.on_trial_complete(key, told, error=failed)

    def pause(self, key: str) -> None:
        """A scheduler lets the point wait; some searchers of Ray's ask to know."""
        getattr(self._searcher, "on_pause", lambda key: None)(key)

    def unpause(self, key: str) -> None:
        """The point goes on."""
        getattr(self._searcher, "on_unpause", lambda key: None)(key)

    def learn(self, values: Mapping[str, Any], losses: Sequence[float] | None) -> None:
        """The end of a point that the searcher has not proposed itself, e.g. one from the store."""
        if self._study is not None:
            if losses is not None or len(self._objectives) == 1:
                self._study.add_trial(replayed(self._space, values, losses))
        elif losses is not None:
            try:
                self._searcher.add_evaluated_point(dict(values), losses[0])
            except NotImplementedError:
                return  # this searcher of Ray's cannot be told; it proposes without


def _optuna(search: Search, made: int) -> tuple[optuna.Study, OptunaSearch]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = named(search, made) if isinstance(search.sampler, str) else copy.deepcopy(search.sampler)
    storage = optuna.storages.InMemoryStorage()
    minimised: list[Any] = ["minimize"] * len(search.objectives)
    study = optuna.create_study(storage=storage, sampler=sampler, study_name=STUDY, directions=minimised)
    several = len(search.objectives) > 1
    searcher = OptunaSearch(
        space=lambda trial: search.choices.choose(lambda field, name, domain: _suggest(trial, name, domain)),
        metric=list(search.objectives) if several else "valid_loss",
        mode=["min"] * len(search.objectives) if several else "min",
        sampler=sampler,
        storage=storage,
        study_name=STUDY,
    )
    return study, searcher


def named(search: Search, made: int) -> optuna.samplers.BaseSampler:
    """The sampler that a search names, its random numbers moved on by what was `made` already."""
    conditional = any(isinstance(domain, When) for domain in search.space.values())
    seed = search.seed + 1_000_003 * made
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        # A conditional space has no joint distribution over all fields; `group` splits it into parts that have one.
        "tpe": lambda: optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed, group=conditional),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "qmc": lambda: optuna.samplers.QMCSampler(scramble=True, seed=seed),
        # Optuna's 50 would make of a small search one generation, all random; this leaves about six to evolve.
        "nsga2": lambda: optuna.samplers.NSGAIISampler(population_size=max(4, search.samples // 6), seed=seed),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return samplers[search.sampler]()


def replayed(space: Space, values: Mapping[str, Any], losses: Sequence[float] | None) -> optuna.trial.FrozenTrial:
    """A point that has ended, as Optuna keeps it; without losses it was worse than all others."""
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}

    def note(field: str, name: str, domain: Domain) -> Any:
        value = values[field]
        distributions[name] = distribution(domain)
        params[name] = domain.values.index(value) if _by_index(domain) else value  # type: ignore[union-attr]
        return value

    space.choose(note)
    state = TrialState.PRUNED if losses is None else TrialState.COMPLETE
    return optuna.trial.create_trial(state=state, values=losses, params=params, distributions=distributions)


def _suggest(trial: Any, name: str, domain: Domain) -> Any:
    if isinstance(domain, Choice):
        if _by_index(domain):
            return domain.values[trial.suggest_categorical(name, range(len(domain.values)))]
        return trial.suggest_categorical(name, domain.values)
    if isinstance(domain, Integers):
        return trial.suggest_int(name, domain.low, domain.high, log=domain.spacing == "log")
    return trial.suggest_float(name, domain.low, domain.high, log=isinstance(domain, LogUniform))


def distribution(domain: Domain) -> BaseDistribution:
    """A domain as Optuna sees it."""
    if isinstance(domain, Choice):
        return CategoricalDistribution(range(len(domain.values)) if _by_index(domain) else domain.values)
    if isinstance(domain, Integers):
        return IntDistribution(domain.low, domain.high, log=domain.spacing == "log")
    return FloatDistribution(domain.low, domain.high, log=isinstance(domain, LogUniform))


def _by_index(domain: Domain) -> bool:
    return isinstance(domain, Choice) and not all(isinstance(value, PLAIN) for value in domain.values)


def tune_space(space: Space) -> dict[str, Any]:
    """An unconditional space in Ray Tune's own domains, for its searchers and its population based training.

    Raises:
        ValueError: a field hangs on another, which Tune's domains cannot say.
    """
    for field, domain in space.domains.items():
        if isinstance(domain, When):
            raise ValueError(
                f"Search.space has {field!r} hang on {domain.field!r}, which Ray's searchers cannot say; use a sampler "
                "of Optuna's."
            )
    return {field: _tune_domain(domain) for field, domain in space.domains.items() if not isinstance(domain, When)}


def _tune_domain(domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return tune.choice(list(domain.values))
    if isinstance(domain, Integers):
        return (tune.lograndint if domain.spacing == "log" else tune.randint)(domain.low, domain.high + 1)
    return (tune.loguniform if isinstance(domain, LogUniform) else tune.uniform)(domain.low, domain.high)
