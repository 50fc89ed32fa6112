"""How early can the end of a training be told? Random searches in several models, every run to its end.

    chemscale search tune_jobs/frey2023_tpe.py --set architecture=schnet --store runs/frey2023_tpe
    python tune_jobs/frey2023_tpe.py runs/frey2023_tpe --out report/frey2023_tpe

The first line trains one model's search and is repeated for chemgpt, schnet and painn; the second makes the table of
Frey et al. 2023 (R2, rank correlation and mean error by model and share of the training) and a figure for each.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chemscale.models import ChemGPT, PaiNN, SchNet
from chemscale.records.store import Store
from chemscale.report import ink
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import Search, choice, loguniform, uniform
from chemscale.sweep.backtest import LEAST, Scores, law_endings, regression_endings, scores
from chemscale.sweep.curves import Curve
from chemscale.sweep.endings import stored_curve
from chemscale.sweep.forecast import Ending
from chemscale.sweep.tse import tse_ema
from chemscale.train.optim import ladder_lr

PREFIX, SHARES, GAMMA = "tpe_", (0.05, 0.1, 0.2, 0.5), 0.9
METHODS = ("TSE-EMA regression", "curve law")
HEAD = ("search", "runs", "share", "method", "r2", "spearman", "mean_error", "inside_95")
MODELS = {"chemgpt": ChemGPT, "schnet": SchNet, "painn": PaiNN}
WIDTHS = {"chemgpt": 16, "schnet": 8, "painn": 8}
SOURCES = {"text": "moses", "structures": "fragments-gfn2"}
SIZES = {"text": 4_000, "structures": 1_200}
EXAMPLES = {"chemgpt": 12_000, "schnet": 1_000, "painn": 1_000}
VALID = {"text": 128, "structures": 48}
BATCHES = {"text": (8, 16, 32), "structures": (4, 8, 16)}


def recipe(
    architecture: str = "chemgpt",
    width: int | None = None,
    samples: int = 64,
    source: str | None = None,
    size: int | None = None,
    examples: int | None = None,
    points: int = 40,
    seed: int = 0,
) -> Search:
    """The optimiser's settings over a wide space; the rate from a thirtieth to twelve times the ladder's rule."""
    if architecture not in MODELS:
        raise ValueError(f"architecture={architecture!r} has no search here; use {', '.join(MODELS)}.")
    model = MODELS[architecture].sized(width=width or WIDTHS[architecture])
    rule = ladder_lr(model)
    base = RunSpec(
        model=model,
        data=Data(source or SOURCES[model.family], size=size or SIZES[model.family]),
        optim=Optim(lr=rule, batch=BATCHES[model.family][1]),
        budget=Budget(examples=examples or EXAMPLES[architecture]),
        evaluation=Evaluation(points=points, valid=VALID[model.family], test=500),
    )
    space = {
        "optim.lr": loguniform(rule / 30, rule * 12),
        "optim.batch": choice(*BATCHES[model.family]),
        "optim.beta2": choice(0.9, 0.95, 0.98, 0.99, 0.999),
        "optim.weight_decay": loguniform(1e-4, 1.0),
        "optim.warmup": uniform(0.0, 0.2),
        "optim.cooldown": uniform(0.05, 0.6),
        "optim.clip": loguniform(0.1, 10.0),
    }
    return Search(
        base, space, samples=samples, sampler="random", seed=seed, name=f"{PREFIX}{architecture}_w{model.width}"
    )


@dataclass(frozen=True)
class Told:
    """One search, one share of the training, one method: forecasts beside what happened."""

    search: str
    share: float
    method: str
    said: Sequence[Ending]
    finals: Sequence[float]

    @property
    def scores(self) -> Scores:
        """What they are worth."""
        return scores(self.said, self.finals)

    def row(self) -> tuple[str, ...]:
        """Of the table."""
        s = self.scores
        numbers = (f"{v:.4f}" for v in (s.r2, s.spearman, s.error, s.inside))
        return self.search, str(len(self.finals)), f"{self.share:g}", self.method, *numbers


def analyse(store: Store, out: Path) -> list[Told]:
    """The table (`table.csv`) and a figure of every search and share, from the finished runs of a store.

    Raises:
        ValueError: the store holds no search of this recipe with enough finished runs.
    """
    searches = {name: _finished(store, name) for name in store.studies() if name.startswith(PREFIX)}
    names = [name for name, (curves, _) in searches.items() if len(curves) >= LEAST]
    if not names:
        raise ValueError(
            f"{store.path} holds no search of {Path(__file__).name} with {LEAST} finished runs; train one with "
            "`chemscale search`."
        )
    told = [one for name in names for one in _foretold(name, *searches[name])]
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "table.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *(one.row() for one in told)])
    for name in names:
        for share in SHARES:
            pair = [one for one in told if (one.search, one.share) == (name, share)]
            (out / f"{name}-{100 * share:.0f}.svg").write_text(figure(pair))
    return told


def _foretold(name: str, curves: Sequence[Curve], training: Sequence[Sequence[float]]) -> list[Told]:
    finals = [curve.final for curve in curves if curve.final is not None]
    told = []
    for share in SHARES:
        seen = [sum(e <= share * c.total * (1 + 1e-9) for e in c.examples) for c in curves]
        estimates = [tse_ema(t, max(1, n - 1), GAMMA) for t, n in zip(training, seen, strict=True)]
        told.append(Told(name, share, METHODS[0], regression_endings(estimates, finals), finals))
        told.append(Told(name, share, METHODS[1], law_endings(curves, share), finals))
    return told


def _finished(store: Store, name: str) -> tuple[list[Curve], list[list[float]]]:
    """Curves of the runs that reached their ends, and their training losses between the same points."""
    curves, training = [], []
    for run_id in store.studies()[name]["runs"]:
        curve = stored_curve(store, run_id)
        if curve.finished:
            curves.append(curve)
            training.append(store.points(run_id)["train_loss"].to_pylist())
    return curves, training


def figure(pair: Sequence[Told]) -> str:
    """Foretold against true final losses, both methods, as one SVG."""
    first = pair[0]
    slug = f"{first.search}-{100 * first.share:.0f}"
    title = f"{first.search.removeprefix(PREFIX)}: the end foretold at {100 * first.share:.0f} % of the training"
    low, high = min(first.finals), max(first.finals)  # a wild forecast may leave the frame
    room = (high / low) ** 0.06
    with ink.canvas(4.4, 3.9, (0.13, 0.12, 0.84, 0.68)) as (drawing, axes):
        drawing.text(0.003, 0.975, title, fontsize=9, fontweight="bold", va="center")
        drawing.text(
            0.003,
            0.93,
            "final validation loss; every run foretold from other runs; bars: 95 % of the law",
            color=ink.MUTED,
        )
        axes.set(xscale="log", yscale="log", xlim=(low / room, high * room), ylim=(low / room, high * room))
        axes.plot([low / room, high * room], [low / room, high * room], color=ink.MUTED, lw=0.8, zorder=1)
        for i, one in enumerate(pair):
            s, values = one.scores, [e.value for e in one.said]
            if one.method == METHODS[1]:
                bars = [[e.value - e.low for e in one.said], [e.high - e.value for e in one.said]]
                axes.errorbar(values, one.finals, xerr=bars, fmt="none", ecolor=ink.RULE, elinewidth=0.7, zorder=1.5)
            label = f"{one.method}: ρ {s.spearman:.2f}, R² {s.r2:.2f}, error {100 * s.error:.1f} %"
            axes.plot(
                values, one.finals, ink.marker(i), color=ink.shade(i + 1 if i else 0, 3), ms=4, mec="white", mew=0.4,
                label=label, zorder=2 + i,
            )  # fmt: skip
        axes.set_xlabel("foretold", loc="center", labelpad=3)
        axes.set_ylabel("true", labelpad=3)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), frameon=False, fontsize=7.5, handletextpad=0.2)
        ink.loss_ticks(axes.xaxis, low, high)
        ink.loss_ticks(axes.yaxis, low, high)
        return ink.svg_of(drawing, slug, title)


def main(arguments: Sequence[str] | None = None) -> None:
    """Analyse a store and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--out", default="report/frey2023_tpe")
    given = parser.parse_args(arguments)
    rows = [HEAD, *(one.row() for one in analyse(Store(given.store), Path(given.out)))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    print("\n".join("  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip() for row in rows))


if __name__ == "__main__":
    main()
