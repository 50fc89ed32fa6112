"""Which settings of a search mattered: PED-ANOVA's importances, with what resampling and chance say of them.

PED-ANOVA (Watanabe et al. 2023) asks how differently a field is distributed among the best runs and among all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chemscale.audit.values import joined
from chemscale.report.numbers import percent
from chemscale.report.values import Importance, Tried

MEASURED = 10  # runs with an end, without which no importance is told
BEST = 0.25  # share of the runs that count as good; more of few, so that there are GOOD, and half of them at most
GOOD = 12
DRAWS = 100
CLEAR = 0.05  # chance below which a field is told apart from one that does nothing
WIDE = 10.0  # a positive field that spans more than this factor is shown on a log axis
MOST_VALUES = 5  # numbers that are a choice between so few


def importances(tried: Sequence[Tried], fields: Sequence[str]) -> tuple[Importance, ...]:
    """The fields, the most important first; none where fewer than `MEASURED` runs have an end."""
    ended = [one for one in tried if one.end is not None]
    if len(ended) < MEASURED or not fields:
        return ()
    losses = np.array([one.end for one in ended], float)
    columns = [[one.settings[field] for one in ended] for field in fields]
    kinds = {field: _distribution(values) for field, values in zip(fields, columns, strict=True)}
    trials = [dict(zip(fields, values, strict=True)) for values in zip(*columns, strict=True)]
    rng = np.random.default_rng(0)
    kept = _frozen(trials, kinds)
    raw = _divergences(kept, losses, kinds)
    shuffled = [_divergences(kept, rng.permutation(losses), kinds) for _ in range(DRAWS)]
    chances = (1 + (np.array(shuffled) >= raw).sum(0)) / (1 + DRAWS)
    picks = rng.integers(len(trials), size=(DRAWS, len(trials)))
    resampled = [_share(_divergences([kept[i] for i in pick], losses, kinds)) for pick in picks]
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    best = trials[int(np.argmin(losses))]
    found = [
        Importance(
            field, float(share), float(low[i]), float(high[i]), float(chances[i]),
            bool(getattr(kinds[field], "log", False)), best[field],
        )
        for i, (field, share) in enumerate(zip(fields, _share(raw), strict=True))
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda one: -one.share))


def _share(raw: Any) -> Any:
    total = raw.sum()
    return raw / total if total > 0 else np.full(len(raw), 1 / len(raw))


def _distribution(values: Sequence[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values) or len(set(numbers)) <= MOST_VALUES:
        return CategoricalDistribution(list(dict.fromkeys(values)))
    low, high = min(numbers), max(numbers)
    return FloatDistribution(float(low), float(high), log=low > 0 and high / low > WIDE)


def _frozen(trials: Sequence[Mapping[str, Any]], kinds: Mapping[str, Any]) -> list[Any]:
    """Runs as Optuna keeps them, numbered; their losses are given when it is asked."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    for trial in trials:
        values = {field: float(value) if _is_float(kinds[field]) else value for field, value in trial.items()}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=dict(kinds), value=0.0))
    return study.get_trials(deepcopy=False)


def _study(trials: Sequence[Any]) -> Any:
    """A study of frozen trials, some perhaps twice, which Optuna's own storage would copy one by one."""
    import optuna

    class Holding(optuna.Study):
        def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[Any]:
            return list(trials)

    storage = optuna.storages.InMemoryStorage()
    return Holding(optuna.create_study(storage=storage).study_name, storage)


def _divergences(trials: Sequence[Any], losses: Any, kinds: Mapping[str, Any]) -> Any:
    """PED-ANOVA's divergence of each field, not normalised, (fields,); losses by the trials' numbers."""
    import optuna

    good = min(0.5, max(BEST, GOOD / len(trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator is experimental
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=good)
        found = evaluator.evaluate(_study(trials), params=list(kinds), target=lambda trial: float(losses[trial.number]))
    return np.array([max(found.get(field, 0.0), 0.0) for field in kinds])


def _is_float(kind: Any) -> bool:
    return hasattr(kind, "log")


def said(tried: Sequence[Tried], found: Sequence[Importance]) -> tuple[str, ...]:
    """What the importances mean."""
    ended = sum(one.end is not None for one in tried)
    if not found:
        return (f"{ended} runs with an end are too few to say which setting mattered; it takes {MEASURED}.",)
    clear = [one for one in found if one.chance < CLEAR]
    if not clear:
        top = found[0]
        return (
            f"No setting is told apart from chance by {ended} runs; {field_words(top.field)} comes nearest "
            f"(p = {top.chance:.2f}).",
        )
    told = [
        f"{field_words(one.field)} ({percent(one.share)} of the importance, {percent(one.low)} to {percent(one.high)})"
        for one in clear
    ]
    others = [field_words(one.field) for one in found if one.chance >= CLEAR]
    rest = f"; {joined(others)} did no more than chance in {ended} runs" if others else ""
    return (f"What told good runs from others was the {joined(told)}{rest}.",)


def field_words(field: str) -> str:
    """A field as people write it."""
    words = {"lr": "learning rate", "batch": "batch size", "clip": "gradient clip"}
    name = field.rpartition(".")[2]
    return words.get(name, name.replace("_", " "))
