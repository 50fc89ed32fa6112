"""One loop for every model: step, evaluate, checkpoint, and an exact continuation after a kill.

The spec decides which examples make step k; how they lie in memory (micro-batches, shards of workers) changes nothing
but rounding, because losses are sums over the global batch divided by counts over the global batch.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from chemscale.models import cost
from chemscale.records.attempt import Attempt
from chemscale.records.provenance import energy_meter
from chemscale.records.schema import DIVERGED, FINISHED
from chemscale.records.tensorboard import Board
from chemscale.spec import Resources, RunSpec
from chemscale.train import state
from chemscale.train.measure import EVALUATION_BATCH, measure
from chemscale.train.objectives import Metric, objective_of
from chemscale.train.optim import apply, build_optimiser, lr_share
from chemscale.train.order import step_positions
from chemscale.train.ranks import MICRO_BATCH, Ranks, device_name, memory_limit_named
from chemscale.train.rows import Ledger, metric_columns, opening_row, outcome_columns, point_row, training_cost

SAVED = ("timed", "measured")  # now and then; also at every measurement, so that a run may be paused or copied there
REPORT_SECONDS = 1.0  # a scheduler's stop takes effect at the next report
WARM_STEPS = 3  # first steps after each start, left out of device-seconds

Report = Callable[[dict[str, Any]], None]


def train(
    run: RunSpec,
    examples: Any,
    *,
    claim: Callable[[dict[str, Any]], tuple[Attempt, list[Attempt]]],
    board: Callable[[int], Board] | None = None,
    resources: Resources | None = None,
    ranks: Ranks | None = None,
    report: Report = lambda row: None,
    counted: cost.Cost | None = None,
    saved: str = "timed",
) -> dict[str, Any]:
    """Train one run to its end, continuing what earlier attempts saved.

    Args:
        run: a complete spec.
        examples: its opened data (`chemscale.data.open_data`).
        claim: takes the opening row, returns this attempt and all earlier ones; called by rank 0 only.
        board: makes the event files, given the examples already seen.
        resources: threads, micro-batch, checkpoints; never changes a number beyond rounding.
        ranks: this process among the workers of the run.
        report: told of progress at least every second, and of every measurement after it is on disk.
        counted: FLOPs per example (`rows.training_cost`), where they have been counted already.
        saved: when its state is saved, one of `SAVED`.

    Returns:
        The terminal RUNS row, already written; its status is finished or diverged.

    Raises:
        MemoryError: a step does not fit; the message names its size.
    """
    resources, ranks = resources or Resources(), ranks or Ranks()
    torch.set_num_threads(max(1, int(resources.cpus)))
    with memory_limit_named(run, resources, ranks):
        counted = counted or training_cost(run, examples.manifest)
        training = _open(run, examples, claim, board, resources, ranks, report, counted, saved)
        try:
            return training.complete()
        finally:
            training.close()


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
) -> _Training:
    torch.manual_seed(run.seed)
    model = run.model.build(examples.manifest).to(ranks.device, getattr(torch, run.precision))
    optimiser = build_optimiser(model, run.optim)
    ids = examples.subset(run.data.size, run.data.key, run.data.per_group)
    ledger = Ledger(run, examples, ids, counted)
    opening = {**opening_row(run), **_parameters(model), "started": time.time(), "host": socket.gethostname()}
    opening |= {"device": device_name(ranks.device), "devices": ranks.world, **ledger.unique}
    attempt, earlier = claim(opening) if ranks.first else (None, [])
    progress = _resume(earlier, model, optimiser, ranks)
    apply(run.optim, optimiser)  # a state brings its own
    wrapped = nn.parallel.DistributedDataParallel(model) if ranks.world > 1 else model
    events = board(progress.examples) if board and ranks.first else None
    meter = energy_meter(resources.cpus * ranks.world, resources.gpus)
    return _Training(
        run, examples, ledger, wrapped, optimiser, progress, attempt, resources, ranks, report, opening, events, meter,
        saved,
    )  # fmt: skip


def _resume(earlier: list[Attempt], model: nn.Module, optimiser: Any, ranks: Ranks) -> state.Progress:
    if ranks.world == 1:
        return state.load(earlier, model, optimiser, ranks.device) or state.Progress()
    box: list[Any] = [earlier]
    dist.broadcast_object_list(box, src=0)  # every rank reads the same files
    return state.load(box[0], model, optimiser, ranks.device) or state.Progress()


@dataclass
class _Training:
    run: RunSpec
    examples: Any
    ledger: Ledger
    model: nn.Module
    optimiser: torch.optim.Optimizer
    progress: state.Progress
    attempt: Attempt | None  # rank 0 only
    resources: Resources
    ranks: Ranks
    report: Report
    opening: dict[str, Any]
    events: Board | None
    meter: Callable[[], float] | None
    saved: str
    _clock: float = field(default_factory=time.perf_counter)
    _reported: float = 0.0
    _saved: float = field(default_factory=time.perf_counter)
    _started_at: int = 0

    def __post_init__(self) -> None:
        self.objective = objective_of(self.run)
        self.inner: nn.Module = getattr(self.model, "module", self.model)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self._seconds_before, self._joules_before = self.progress.seconds, self.progress.joules
        self._started_at = self.progress.step
        count = self.run.evaluation.points
        self.point_steps = {math.ceil(self.run.updates * i / count) for i in range(1, count + 1)}

    # -- the whole of it ----------------------------------------------------------------------------------------------

    def complete(self) -> dict[str, Any]:
        """Train to the end of the budget, or to the first number that is not finite; returns the terminal row."""
        while self.progress.step < self.run.updates:
            norm = self._timed_step()
            if not math.isfinite(norm):
                return self._end_diverged(norm)
            if self.progress.step in self.point_steps and not self._point(norm):
                return self._end_diverged(norm)
            self._save_when_due()
            self._keep_alive()
        return self._end_finished()

    def close(self) -> None:
        if self.events is not None:
            self.events.close()

    # -- one step -----------------------------------------------------------------------------------------------------

    def _timed_step(self) -> float:
        before = time.perf_counter()
        norm, count = self._step()
        if self.progress.step - self._started_at > WARM_STEPS:
            self.progress.step_seconds += time.perf_counter() - before
            self.progress.step_examples += count
        return norm

    def _step(self) -> tuple[float, int]:
        run, progress = self.run, self.progress
        rate = (run.optim.lr or 0.0) * lr_share(progress.step, run.updates, run.optim)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        positions = step_positions(
            progress.step, batch=run.optim.batch, size=len(self.ledger.ids), seed=run.seed, total=run.examples
        )
        loss = self._gradients(self.ledger.ids[positions])
        limit = run.optim.clip if run.optim.clip is not None else math.inf
        norm = float(nn.utils.clip_grad_norm_(self.parameters, limit))
        if math.isfinite(norm):
            self.optimiser.step()
            progress.loss_sum += float(loss)
            progress.loss_steps += 1
        progress.step += 1
        progress.examples += len(positions)
        return norm, len(positions)

    def _gradients(self, ids: np.ndarray) -> Tensor:
        """Leave the gradient of the global batch's loss in the parameters; return this rank's share of the loss."""
        self.optimiser.zero_grad(set_to_none=True)
        mine = ids[self.ranks.rank :: self.ranks.world]
        batches = [self._batch(chunk) for chunk in self._chunks(mine)]
        idle = not batches
        if idle:  # fewer examples than workers: this rank joins the exchange with a loss of weight zero
            batches = [self._batch(ids[:1])]
        totals = torch.stack([self.objective.denominators(b) for b in batches]).sum(0) * (0 if idle else 1)
        if self.ranks.world > 1:
            dist.all_reduce(totals)
        loss = torch.zeros((), device=self.ranks.device)
        for k, batch in enumerate(batches):
            share = self.objective.loss(self.model, batch, totals) * (0 if idle else 1)
            with self._exchange(last=k == len(batches) - 1):
                (share * self.ranks.world).backward()  # DistributedDataParallel divides by the number of workers
            loss = loss + share.detach()
        return loss

    def _exchange(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        if self.ranks.world == 1 or last:
            return contextlib.nullcontext()
        return self.model.no_sync()  # type: ignore[operator]

    def _chunks(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        size = self.resources.micro_batch or MICRO_BATCH[self.ranks.device.type]
        if len(ids) > size:  # neighbours in length share a micro-batch, so that little is padded
            ids = ids[np.argsort(self.examples.lengths(ids), kind="stable")]
        for start in range(0, len(ids), size):
            yield ids[start : start + size]

    def _batch(self, ids: np.ndarray) -> Any:
        batch = self.examples.batch(ids)
        if self.run.precision != "float32" and hasattr(batch, "astype"):
            batch = batch.astype(getattr(torch, self.run.precision))
        return batch.to(self.ranks.device)

    # -- measuring ----------------------------------------------------------------------------------------------------

    def _measure(self, ids: np.ndarray) -> dict[str, Metric]:
        return measure(
            self.objective,
            self.inner,
            self.examples,
            ids,
            size=self.resources.micro_batch or EVALUATION_BATCH.get(self.run.model.family, 64),
            ranks=self.ranks,
            batch_of=self._batch,
            pulse=self._keep_alive,
        )

    @functools.cached_property
    def _valid_ids(self) -> np.ndarray:
        return self.examples.split("valid", self.run.evaluation.valid)

    def _point(self, norm: float) -> bool:
        """Measure, write, report; False where the validation loss is not finite."""
        metrics = self._measure(self._valid_ids)
        headline = metrics[self.objective.headline]
        if not math.isfinite(headline.value):
            return False
        progress = self.progress
        progress.valid, progress.valid_se = headline.value, headline.se
        if progress.best is None or headline.value < progress.best:
            progress.best, progress.best_step = headline.value, progress.step
            if self.run.examples > len(self.ledger.ids):  # only repeated data can turn the validation loss up
                progress.best_weights = {k: v.detach().clone() for k, v in self.inner.state_dict().items()}
        loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64, device=self.ranks.device)
        if self.ranks.world > 1:
            dist.all_reduce(loss_sum)
        clock = {"seconds": self._seconds(), "joules": self._joules()}
        train_loss, lr = float(loss_sum) / max(1, progress.loss_steps), self.optimiser.param_groups[0]["lr"]
        row = point_row(self.ledger, progress, metrics, headline, lr=lr, norm=norm, train_loss=train_loss) | clock
        progress.loss_sum, progress.loss_steps = 0.0, 0
        self._write_point(row)
        if progress.step < self.run.updates:  # the last report follows the terminal row
            if self.saved == "measured" and self.attempt is not None:
                self._save()
            self._tell({"valid_loss": headline.value})
        return True

    def _write_point(self, row: dict[str, Any]) -> None:
        if self.attempt is not None:
            self.attempt.point(row)
            self.attempt.flush()
            self.attempt.beat(self.progress.step, self.progress.examples)
        if self.events is not None:
            self.events.point(row)

    # -- staying alive ------------------------------------------------------------------------------------------------

    def _keep_alive(self) -> None:
        if self.attempt is not None:
            self.attempt.beat(self.progress.step, self.progress.examples)
        # Ray Train's report is a barrier: several workers report at measurements only, which all of them reach.
        if self.ranks.world == 1 and time.perf_counter() - self._reported >= REPORT_SECONDS:
            self._tell({})

    def _save_when_due(self) -> None:
        due = time.perf_counter() - self._saved >= self.resources.checkpoint_seconds
        if due and self.attempt is not None and self.progress.step < self.run.updates:
            self._save()

    def _tell(self, row: dict[str, Any]) -> None:
        self._reported = time.perf_counter()
        self.report({"examples": self.progress.examples, "step": self.progress.step, **row})

    def _save(self) -> None:
        assert self.attempt is not None
        self.progress.seconds, self.progress.joules = self._seconds(), self._joules()
        state.save(self.attempt, self.inner, self.optimiser, self.progress)
        self._saved = time.perf_counter()

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._clock

    def _joules(self) -> float | None:
        if self.meter is None or self._joules_before is None:
            return None
        return self._joules_before + self.meter()

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end_finished(self) -> dict[str, Any]:
        ids = self.examples.split("test", self.run.evaluation.test)
        rule = self.progress.rule
        if rule == "best":
            assert self.progress.best_weights is not None
            final = {k: v.detach().clone() for k, v in self.inner.state_dict().items()}
            self.inner.load_state_dict(self.progress.best_weights)
            metrics = self._measure(ids)
            self.inner.load_state_dict(final)
        else:
            metrics = self._measure(ids)
        digest = hashlib.sha256(str(self.run.data.content).encode() + ids.tobytes()).hexdigest()[:16]
        tested = {"law_rule": rule, "test_examples": len(ids), "test_checksum": digest}
        if not math.isfinite(metrics[self.objective.headline].value):
            return self._end_diverged(metrics[self.objective.headline].value)
        return self._end(FINISHED, None, {**metric_columns(metrics, self.objective.headline), **tested})

    def _end_diverged(self, value: float) -> dict[str, Any]:
        reason = f"not finite ({value}) at update {self.progress.step} of {self.run.updates}"
        return self._end(DIVERGED, reason, {})

    def _end(self, status: str, reason: str | None, outcome: dict[str, Any]) -> dict[str, Any]:
        progress = self.progress
        steps = progress.step_seconds * progress.examples / progress.step_examples if progress.step_examples else None
        row = {
            **self.opening,
            **outcome_columns(self.ledger, progress.examples, progress.step),
            **outcome,
            "status": status,
            "stop_reason": reason,
            "valid_loss": progress.valid,
            "best_valid_loss": progress.best,
            "best_step": progress.best_step,
            "seconds": self._seconds(),
            "device_seconds": None if steps is None else steps * self.ranks.world,
            "joules": self._joules(),
            "ended": time.time(),
        }
        if self.attempt is not None:
            self._keep_weights(status)
            self.attempt.beat(progress.step, progress.examples, now=True)
            self.attempt.end(row)
        if self.events is not None:
            self.events.close(row)
            self.events = None
        told = {"valid_loss": progress.valid} if progress.valid is not None else {}
        self._tell({**told, "law_loss": row.get("law_loss"), "status": status})
        return row

    def _keep_weights(self, status: str) -> None:
        assert self.attempt is not None
        if status != FINISHED or self.resources.keep == "none":
            return
        best = self.progress.best_weights
        chosen = best if self.resources.keep == "best" and best is not None else self.inner.state_dict()
        state.save_weights(self.attempt, "weights.pt", chosen)


def _parameters(model: nn.Module) -> dict[str, Any]:
    counted = cost.parameters(model)
    groups = {k: v for k, v in counted.items() if k not in ("all", "non_embedding")}
    return {"params": counted["non_embedding"], "params_all": counted["all"], "params_by_group": groups}
