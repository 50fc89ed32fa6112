"""Predictions that were registered before their runs started, as claims against what the runs measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scipy.stats import binomtest

from chemscale.audit.groups import Row, name_of
from chemscale.audit.values import CANNOT_TELL, NOT_SUPPORTED, SUPPORTED, Claim, Deciding
from chemscale.plan.register import CHANGED

MOST = 10  # forecasts of one architecture that are told one by one
TOO_FEW = 0.05  # chance of so few hits, were the level true, under which intervals are called too narrow

Forecast = Mapping[str, Any]


def forecasts_of(forecasts: Mapping[str, Forecast], rows: Mapping[str, Row]) -> Iterable[Claim]:
    """The claims of forecasts: one each, or of an architecture with many those that missed and how often all held.

    forecasts: run id, or the name of a plan without a run yet -> prediction; see `plan.resolved`. rows: by run id.
    """
    claims: dict[str, list[tuple[Claim, float]]] = {}
    for run_id, said in forecasts.items():
        if (claim := _claim(run_id, said, (rows.get(run_id) or {}).get(str(said.get("metric", ""))))) is not None:
            claims.setdefault(claim.about, []).append((claim, float(said.get("level") or 0.95)))
    for about, mine in claims.items():
        if len(mine) <= MOST:
            yield from (claim for claim, _ in mine)
            continue
        order = (NOT_SUPPORTED, CANNOT_TELL, SUPPORTED)
        yield _together(about, mine)
        yield from sorted((claim for claim, _ in mine), key=lambda claim: order.index(claim.mark))[:MOST]


def _claim(run_id: str, said: Forecast, found: float | None) -> Claim | None:
    """The claim of one forecast, `found` measured; None where no prediction could be made."""
    name, metric = name_of(str(said.get("architecture", ""))), str(said.get("metric", ""))
    if said.get("reason") == CHANGED:
        return Claim("forecast", name, f"the forecast {run_id} is what was registered", NOT_SUPPORTED, CHANGED)
    if said.get("value") is None or said.get("low") is None or said.get("high") is None:
        return None
    where = f"{said.get('params', float('nan')):.3g} parameters on {said.get('data', float('nan')):.3g} examples"
    text = f"{name} with {where} ends at {said['value']:.4g} ({said['low']:.4g} to {said['high']:.4g}) in {metric}"
    if found is None:
        at = {"params": float(said.get("params") or 0), "data": float(said.get("data") or 0)}
        run = Deciding(at, 1, "the run that was foretold")
        return Claim("forecast", name, text, CANNOT_TELL, "it has not finished", runs=(run,))
    inside = said["low"] <= found <= said["high"]
    return Claim(
        "forecast", name, text, SUPPORTED if inside else NOT_SUPPORTED,
        f"measured {found:.4g}, {'inside' if inside else 'outside'} the interval registered beforehand",
        numbers={"measured": found, "off": said["value"] / found - 1},
    )  # fmt: skip


def _together(about: str, claims: list[tuple[Claim, float]]) -> Claim:
    """How often the forecasts of an architecture held, against their level."""
    told = [(claim.mark == SUPPORTED, level) for claim, level in claims if "measured" in claim.numbers]
    hits, level = sum(hit for hit, _ in told), sum(level for _, level in claims) / len(claims)
    text = f"{about}: its {len(claims)} registered forecasts hold as often as their level of {level:.0%} says"
    if not told:
        return Claim("forecast", about, text, CANNOT_TELL, "no run of them has finished")
    chance = float(binomtest(hits, len(told), level, alternative="less").pvalue)
    return Claim(
        "forecast", about, text, SUPPORTED if chance > TOO_FEW else NOT_SUPPORTED,
        f"{hits} of {len(told)} measured lie inside their intervals (so few or fewer with probability {chance:.2g}); "
        f"listed are {MOST}, those that missed first",
        numbers={"measured": len(told), "inside": hits, "probability": chance},
    )  # fmt: skip
