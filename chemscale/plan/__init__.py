"""A law, a measured cost and a budget in; what to train out, with intervals, or "cannot tell" with the runs that would.

Units: params in parameters, data in the law's own unit (tokens, molecules, structures), compute in FLOPs, time in
device-hours, money in whatever a price is in, losses in the law's unit.
"""

from __future__ import annotations

from chemscale.laws.tables.cost import PerUnit
from chemscale.plan.choice import CANNOT_TELL, Choice, Plan, plan
from chemscale.plan.cost import RunCost, Spend, law_cost, measure_cost
from chemscale.plan.following import Following, following
from chemscale.plan.opinion import second_opinion
from chemscale.plan.register import Score, freeze, resolved, scores
from chemscale.plan.worth import First, Worth
from chemscale.rooms import answer_calls

__all__ = [
    "CANNOT_TELL", "Choice", "First", "Following", "PerUnit", "Plan", "RunCost", "Score", "Spend", "Worth", "following",
    "freeze", "law_cost", "measure_cost", "plan", "resolved", "scores", "second_opinion",
]  # fmt: skip

answer_calls(__name__, "chemscale.plan.choice:plan")  # `chemscale.plan` is the room and the function
