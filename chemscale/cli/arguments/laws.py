"""Arguments of the verbs that fit laws and decide by them."""

from __future__ import annotations

from typing import Any

from chemscale.cli import audit, compare, deciding, laws
from chemscale.cli.arguments.common import verb, with_resources
from chemscale.laws.forms import FORMS


def laws_and_audits(verbs: Any) -> None:
    """`fit` and `audit`."""
    made = verb(verbs, "fit", laws.fit)
    made.add_argument("table", help="a store, or any CSV or Parquet file with named columns")
    for axis in ("params", "data", "flops"):
        made.add_argument(f"--{axis}", metavar="COL", help=f"column of {axis}")
    made.add_argument("--seen", metavar="COL", help="column of units seen, repeats counted, for repeated")
    made.add_argument("--epochs", metavar="COL", help="makes seen of data, or data of seen: seen = data x epochs")
    made.add_argument("--loss", metavar="COL", required=True)
    made.add_argument("--where", metavar="EXPR", help="e.g. \"architecture == 'painn' and seed == 0\"")
    made.add_argument("--by", metavar="COL", help="a law for each value of this column")
    made.add_argument(
        "--form",
        help=f"{', '.join(FORMS)}, auto (by backtest) or sliced (per amount of data); default chinchilla, on one axis "
        "power_floor or power, with --seen repeated",
    )
    made.add_argument("--objective", default="huber", help="huber, lad, log_lsq or lsq")
    made.add_argument("--delta", type=float, default=1e-3, help="of huber, in log residuals (default 1e-3)")
    made.add_argument("--weights", metavar="COL", help="a column, replicates or large[:SHARE]")
    made.add_argument("--cluster", metavar="COL", help="rows that share its value are resampled together")
    made.add_argument("--noise-floor", type=float, default=0.0, help="label noise in the loss; bounds the floor")
    made.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="refits (default 1000)")
    made.add_argument("--censored", metavar="COL", help="true where the loss is an upper bound of a stopped run's end")
    made.add_argument("--interval", default="auto", help="auto, wald, pairs, wild, parametric or profile")
    made.add_argument(
        "--calibrate", type=int, default=0, metavar="N", help="coverage of the intervals in N simulations"
    )
    made.add_argument("--level", type=float, default=0.95)
    made.add_argument("--hold-out", metavar="largest[:FRACTION]|beyond:FACTOR|rolling")
    made.add_argument("--along", choices=("params", "data", "flops"))
    made.add_argument("--predict", action="append", default=[], metavar="params=…,data=…")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", help="file for the JSON")
    made.add_argument("--counts", action="append", default=[], metavar="COL", help="another count of parameters")
    made = verb(verbs, "audit", audit.audit)
    made.add_argument("what", metavar="STORE|TABLE", help="a store, or any CSV or Parquet file with named columns")
    for axis in ("params", "data", "flops", "seen"):
        made.add_argument(f"--{axis}", metavar="COL", help=f"column of {axis} (of a table, at least one axis)")
    made.add_argument("--loss", metavar="COL", help="of a table; of a store the default is each model's own")
    made.add_argument("--where", metavar="EXPR", help="e.g. \"architecture == 'painn' and seed == 0\"")
    made.add_argument("--by", metavar="COL", help="an audit for each value of this column")
    made.add_argument("--form", help="of the law whose claims are marked (default: as in fit)")
    made.add_argument("--counts", action="append", default=[], metavar="COL", help="another count of parameters")
    made.add_argument(
        "--forecast", action="append", default=[], metavar="FILE", help="to score: what `plan --register` froze"
    )
    made.add_argument("--strict", action="store_true", help="exit status 1 where a concern or a false claim stands")


def _rule(made: Any) -> None:
    made.add_argument(
        "--rule", default="v", help="v: least error of the target (default); to compare with: d, cheapest, random"
    )


def next_runs(verbs: Any) -> None:
    """`plan` and `explore`."""
    made = verb(verbs, "plan", deciding.plan)
    made.add_argument("table", help="a store, or any CSV or Parquet file with named columns")
    made.add_argument("--params", metavar="COL", default="params")
    made.add_argument("--data", metavar="COL", help="default: the unit of the loss's family")
    made.add_argument("--loss", metavar="COL", required=True)
    made.add_argument("--where", metavar="EXPR")
    made.add_argument("--by", metavar="COL", help="choose between these too, e.g. architecture: a law and a cost each")
    made.add_argument(
        "--form", default="chinchilla", help="default chinchilla, as in fit and report; auto: by backtest"
    )
    made.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="refits (default 1000)")
    made.add_argument("--seed", type=int, default=0)
    budget = made.add_argument_group("the budget: one of these; --labels may go with another, as the most there are")
    budget.add_argument("--flops", type=float, help="FLOPs of training")
    budget.add_argument("--device-hours", type=float)
    budget.add_argument("--money", type=float, help="needs --price")
    budget.add_argument("--labels", type=float, help="unique data that there are")
    budget.add_argument("--price", type=float, help="money per device-hour")
    budget.add_argument(
        "--label-price", type=float, default=0.0, help="money per label beyond those of the largest run"
    )
    budget.add_argument("--cost", metavar="COL", help="FLOPs of each run (default flops; 6 N per token without)")
    more = made.add_argument_group("beyond the plan")
    more.add_argument(
        "--register", metavar="RUN|NAME", help="freeze the forecast: in a store, or as NAME.forecast.json"
    )
    more.add_argument("--next-runs", type=float, metavar="BUDGET", help="the runs that would teach most, for so much")
    more.add_argument("--target", metavar="params=…,data=…|PARAMETER", help="of those runs (default: the planned run)")
    _rule(more)
    made = verb(verbs, "explore", deciding.explore)
    made.add_argument("recipe", help="a Python file whose `recipe` returns the Grid of runs that may be made")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="argument of the recipe")
    made.add_argument("--store", required=True, help="folder of the records")
    made.add_argument("--target", required=True, metavar="params=…,data=…|PARAMETER", help="what is to be known")
    made.add_argument(
        "--width", type=float, default=0.1, help="half the interval at which it ends, a share (default 0.1)"
    )
    made.add_argument("--flops", type=float, help="budget in FLOPs")
    made.add_argument("--device-hours", type=float, help="budget in device-hours")
    made.add_argument("--form", default="chinchilla", help="of the law (default chinchilla)")
    _rule(made)
    made.add_argument("--dry-run", action="store_true", help="say what would be trained next")
    with_resources(made)


def comparisons(verbs: Any) -> None:
    """`compare`."""
    made = verb(verbs, "compare", compare.compare)
    made.add_argument("table", help="a store, or any CSV or Parquet file with named columns")
    made.add_argument("--by", metavar="COL", default="architecture", help="what separates the groups (architecture)")
    for axis in ("params", "data", "flops"):
        made.add_argument(f"--{axis}", metavar="COL", help=f"column of {axis}")
    made.add_argument("--seen", metavar="COL", help="column of units seen, repeats counted, for repeated")
    made.add_argument("--loss", metavar="COL", required=True)
    made.add_argument("--where", metavar="EXPR", help="e.g. \"architecture in ('painn', 'schnet')\"")
    made.add_argument("--form", help="any but bnsl (default: as in fit)")
    made.add_argument("--shared", default="", metavar="NAME,NAME", help="parameters held equal, e.g. E,B,beta")
    made.add_argument(
        "--floor", default="free", choices=("free", "tested"), help="a floor per group, or one where a test allows it"
    )
    made.add_argument("--noise-floor", type=float, default=0.0, help="label noise in the loss; bounds every floor")
    made.add_argument("--reference", metavar="VALUE", help="the group to measure against (default: the first)")
    made.add_argument("--level", type=float, default=0.95)
    made.add_argument("--bootstrap", type=int, default=400, metavar="N", help="draws of the tests (default 400)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", help="file for the JSON")
