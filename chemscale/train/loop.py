"""One loop for every model: step, evaluate, checkpoint, and an exact continuation after a kill.

The spec decides which examples make step k; how they lie in memory and on how many workers changes nothing but rounding
(`train.step`, `train.parallel`).
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from chemscale.models import cost
from chemscale.records.attempt import Attempt
from chemscale.records.provenance import energy_meter
from chemscale.records.schema import DIVERGED, FINISHED
from chemscale.records.tensorboard import Board
from chemscale.spec import Resources, RunSpec
from chemscale.train import origins, state
from chemscale.train.average import blend, in_place
from chemscale.train.beside import Beside, built, with_pulse
from chemscale.train.journal import Clock, Journal, Report
from chemscale.train.measure import EVALUATION_BATCH, measure
from chemscale.train.objectives import Metric, objective_of
from chemscale.train.optim import build_optimiser
from chemscale.train.parallel import Weights, spread
from chemscale.train.precision import arithmetic, keep_freed_memory, parameter_type
from chemscale.train.ranks import Ranks, device_name, memory_limit_named, require_sharding
from chemscale.train.rows import Ledger, metric_columns, opening_row, point_row, training_cost
from chemscale.train.step import Made, Stepper
from chemscale.train.trunk import Trunk, trunk_of

SAVED = ("timed", "measured")  # now and then; also at every measurement, so that a run may be paused or copied there
WARM_STEPS = 3  # first steps after each start, left out of device-seconds


def train(
    run: RunSpec,
    examples: Any,
    *,
    claim: Callable[[dict[str, Any]], tuple[Attempt, list[Attempt]]],
    board: Callable[[dict[str, Any], int], Board] | None = None,
    resources: Resources | None = None,
    ranks: Ranks | None = None,
    report: Report = lambda row: None,
    counted: cost.Cost | None = None,
    saved: str = "timed",
    beside: Beside | None = None,
) -> dict[str, Any]:
    """Train one run to its end, continuing what earlier attempts saved.

    Args:
        run: a complete spec.
        examples: its opened data (`chemscale.data.open_data`).
        claim: takes the opening row, returns this attempt and all earlier ones; called by rank 0 only.
        board: makes the event files, given the opening row and the examples already seen.
        resources: threads, micro-batch, checkpoints; never changes a number beyond rounding.
        ranks: this process among the workers of the run.
        report: told of progress at least every second, and of every measurement after it is on disk.
        counted: FLOPs per example (`rows.training_cost`), where they have been counted already.
        saved: when its state is saved, one of `SAVED`.
        beside: what is measured of the trained model beside its losses, before the terminal row.

    Returns:
        The terminal RUNS row, already written; its status is finished or diverged.

    Raises:
        MemoryError: a step does not fit; the message names its size.
        ValueError: the model cannot be sharded.
    """
    resources, ranks = resources or Resources(), ranks or Ranks()
    require_sharding(run, resources)
    torch.set_num_threads(max(1, int(resources.cpus)))
    torch.set_default_dtype(torch.float32)
    keep_freed_memory()
    with memory_limit_named(run, resources, ranks):
        counted = counted or training_cost(run, examples.manifest)
        training = _open(run, examples, claim, board, resources, ranks, report, counted, saved, beside)
        try:
            return training.complete()
        finally:
            training.journal.close()


def _open(
    run: RunSpec,
    examples: Any,
    claim: Any,
    board: Any,
    resources: Resources,
    ranks: Ranks,
    report: Report,
    counted: cost.Cost,
    saved: str,
    beside: Beside | None,
) -> _Training:
    _seed(run.seed)
    model = run.model.build(examples.manifest).to(parameter_type(run.precision))
    ledger = Ledger(run, examples, examples.subset(run.data.size, run.data.key, run.data.per_group), counted)
    opening = {**opening_row(run), **_parameters(model), "started": time.time(), "host": socket.gethostname()}
    opening |= {"device": device_name(ranks.device), "devices": ranks.world, **ledger.unique}
    layout = spread(model, ranks, resources)
    optimiser = build_optimiser(layout.module, run.optim)
    attempt, earlier = claim(opening) if ranks.first else (None, [])
    trunk = trunk_of(run)
    shared = trunk.states(attempt.root) if trunk is not None and attempt is not None else ()
    progress = state.load([*earlier, *shared], layout, optimiser)
    if run.init_from is not None and progress.step == 0:  # whoever goes on from a state has no need of the origin
        origins.start(layout, run, examples.manifest)
    optimiser.set_constants(run.optim)  # a state brings its own
    events = board(opening, progress.examples) if board and ranks.first else None
    # One process reads one machine's meter: of several workers it would count a part and call it the whole.
    meter = energy_meter(resources.cpus, resources.gpus) if ranks.world == 1 else None
    clock = Clock(progress, meter)
    journal = Journal(ledger, opening, attempt, events, clock, ranks.world == 1, report)
    how = resources.micro_batch, resources.layout
    stepper = Stepper(run, examples, ledger.ids, objective_of(run), layout, optimiser, *how)
    return _Training(run, examples, stepper, progress, journal, resources, saved, trunk, beside)


def _seed(seed: int) -> None:
    """Every generator that a model may draw from: a reused process has used them before."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@dataclass
class _Training:
    run: RunSpec
    examples: Any
    stepper: Stepper
    progress: state.Progress
    journal: Journal
    resources: Resources
    saved: str
    trunk: Trunk | None
    beside: Beside | None = None
    _saved: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.objective, self.layout = self.stepper.objective, self.stepper.layout
        self.ranks = self.layout.ranks
        self._warm_until = self.progress.step + WARM_STEPS
        count = self.run.evaluation.points
        self.point_steps = {math.ceil(self.run.updates * i / count) for i in range(1, count + 1)}

    def complete(self) -> dict[str, Any]:
        """Train to the end of the budget, or to the first number that is not finite; returns the terminal row."""
        while self.progress.step < self.run.updates:
            made = self._step()
            if not math.isfinite(made.norm):
                return self._end_diverged(made.norm)
            if self.trunk is not None and self.progress.step == self.trunk.updates:
                self._leave_trunk(self.trunk)
            if self.progress.step in self.point_steps and not self._point(made.norm):
                return self._end_diverged(made.norm)
            if made.save and self.progress.step < self.run.updates:
                self._save()
            self.journal.alive(self.progress)
        return self._end_finished()

    def _step(self) -> Made:
        progress, before = self.progress, time.perf_counter()
        # Rank 0's clock decides for all workers, since all of them may have a part in the state.
        due = self.ranks.first and before - self._saved >= self.resources.checkpoint_seconds
        made = self._made(due)
        progress.step += 1
        progress.examples += made.examples
        if math.isfinite(made.norm):
            if self.run.optim.ema is not None:
                progress.average = blend(progress.average, self.layout, self.run.optim.ema, progress.step)
            progress.loss_sum += made.loss
            progress.loss_steps += 1
        if progress.step > self._warm_until:
            progress.device_seconds += (time.perf_counter() - before) * self.ranks.world
            progress.step_examples += made.examples
        return made

    def _made(self, save_due: bool) -> Made:
        """The next step; while a first one is compiled, for a minute or more, the run says that it lives."""
        number, made = self.progress.step, []
        if getattr(self.layout.module.forward, "seconds", 0.0) is not None:
            return self.stepper.step(number, save_due=save_due)
        with_pulse(
            lambda: made.append(self.stepper.step(number, save_due=save_due)),
            lambda: self.journal.alive(self.progress),
        )
        return made[0]

    def _save(self) -> None:
        clock = self.journal.clock
        self.progress.seconds, self.progress.joules = clock.seconds(), clock.joules()
        total = self._all_loss()
        self.progress.loss_sum = total if self.ranks.first else 0.0
        state.save(self.journal.attempt, self.layout, self.stepper.optimiser, self.progress)
        self._saved = time.perf_counter()

    def _leave_trunk(self, trunk: Trunk) -> None:
        """Save the state before the cooldown, for longer runs; shorter ones have begun before or never will."""
        made = replace(self.progress, inherited=self.progress.step, loss_sum=0.0, loss_steps=0, best_weights=None)
        attempt = self.journal.attempt
        keeper = trunk.here(attempt.root) if attempt is not None else None
        older = [] if attempt is None else [s for s in trunk.states(attempt.root) if s.step < trunk.updates]
        state.save(keeper, self.layout, self.stepper.optimiser, made)
        for passed in older:
            passed.place.remove(passed.file)

    # -- measuring ----------------------------------------------------------------------------------------------------

    def _measure(self, ids: np.ndarray, weights: Weights | None) -> dict[str, Metric]:
        """Metrics of these weights; None is those of the model as it is."""
        with in_place(self.layout, weights), arithmetic(self.run.precision, self.ranks.device):
            return measure(
                self.objective,
                self.layout.module,
                self.examples,
                ids,
                size=self.resources.micro_batch or EVALUATION_BATCH.get(self.run.model.family, 64),
                ranks=self.ranks,
                batch_of=self.stepper.batch,
                pulse=lambda: self.journal.alive(self.progress),
            )

    @functools.cached_property
    def _valid_ids(self) -> np.ndarray:
        return self.examples.split("valid", self.run.evaluation.valid)

    def _point(self, norm: float) -> bool:
        """Measure, write, report; False where the validation loss is not finite."""
        metrics = self._measure(self._valid_ids, self.progress.average)
        headline = metrics[self.objective.headline]
        if not math.isfinite(headline.value):
            return False
        progress, ledger = self.progress, self.journal.ledger
        progress.valid, progress.valid_se = headline.value, headline.se
        if progress.best is None or headline.value < progress.best:
            progress.best, progress.best_step = headline.value, progress.step
            if self.run.examples > len(ledger.ids):  # only repeated data can turn the validation loss up
                with in_place(self.layout, progress.average):
                    progress.best_weights = self.layout.snapshot()
        train_loss = self._all_loss() / max(1, progress.loss_steps)
        lr = self.stepper.rate(progress.step - 1)
        row = point_row(ledger, progress, metrics, headline, lr=lr, norm=norm, train_loss=train_loss)
        progress.loss_sum, progress.loss_steps = 0.0, 0
        self.journal.point(progress, row)
        if progress.step < self.run.updates:  # the last report follows the terminal row
            if self.saved == "measured":
                self._save()
            self.journal.tell(progress, {"valid_loss": headline.value})
        return True

    def _all_loss(self) -> float:
        """Sum of the training losses since the last point, over all workers."""
        total = torch.tensor(self.progress.loss_sum, dtype=torch.float64, device=self.ranks.device)
        if self.ranks.world > 1:
            dist.all_reduce(total)
        return float(total)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end_finished(self) -> dict[str, Any]:
        ids = self.examples.split("test", self.run.evaluation.test)
        rule = self.progress.rule
        metrics = self._measure(ids, self.progress.average if rule == "final" else self.progress.best_weights)
        digest = hashlib.sha256(str(self.run.data.content).encode() + ids.tobytes()).hexdigest()[:16]
        tested = {"law_rule": rule, "test_examples": len(ids), "test_checksum": digest}
        headline = self.objective.headline
        if not math.isfinite(metrics[headline].value):
            return self._end_diverged(metrics[headline].value)
        outcome = {**metric_columns(metrics, headline), **tested}
        weights = self._kept_weights()
        if self.beside is not None:
            self._measure_beside(self.beside, weights)
        return self.journal.end(self.progress, FINISHED, None, outcome, weights)

    def _measure_beside(self, beside: Beside, kept: dict[str, Any] | None) -> None:
        """What is wanted beside the losses, of the weights that stay, or where none do of those that were tested.

        The state is saved first: whoever goes on after a kill has this alone to do again. What fails here fails no
        run; the driver tries once more and says why.
        """
        attempt, progress = self.journal.attempt, self.progress
        wanted = attempt is not None and beside.wants(self.run, attempt.root)
        if not self.ranks.from_first(wanted):
            return
        self._save()
        tested = progress.best_weights if progress.rule == "best" else progress.average
        weights = self.layout.gather(tested) if kept is None else kept
        if attempt is None:
            return  # the other workers wait for the first at its last report
        module = built(self.run, weights, self.examples.manifest)
        with self.journal.clock.apart():
            try:
                with_pulse(
                    lambda: beside.measure(self.run, module, self.examples.manifest, attempt.root, self.resources),
                    lambda: self.journal.alive(progress),
                )
            except (ValueError, RuntimeError, OSError) as error:
                print(f"run {self.run.id}: nothing was measured beside its loss: {error}", file=sys.stderr)

    def _end_diverged(self, value: float) -> dict[str, Any]:
        reason = f"not finite ({value}) at update {self.progress.step} of {self.run.updates}"
        return self.journal.end(self.progress, DIVERGED, reason, {}, None)

    def _kept_weights(self) -> dict[str, Any] | None:
        if self.resources.keep == "none":
            return None
        best, average = self.progress.best_weights, self.progress.average
        return self.layout.gather(best if self.resources.keep == "best" and best is not None else average)


def _parameters(model: nn.Module) -> dict[str, Any]:
    counted = cost.parameters(model)
    groups = {k: v for k, v in counted.items() if k not in ("all", "non_embedding")}
    return {"params": counted["non_embedding"], "params_all": counted["all"], "params_by_group": groups}
