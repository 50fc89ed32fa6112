"""What a search found, read from its store: samples, the best of every cell, edges, the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chemscale.records.schema import DIVERGED, FAILED, FINISHED, INTERRUPTED, PENDING, STOPPED
from chemscale.records.store import MAX_RETRIES, Store
from chemscale.spec import RunSpec, from_json
from chemscale.spec.registry import kind_of
from chemscale.sweep.progress import label_of
from chemscale.sweep.search import Search

KNOWN = (FINISHED, STOPPED, DIVERGED)  # how a run ends that a sampler or a stop may learn from

Trial = tuple[dict[str, Any], str, float | None]


@dataclass(frozen=True)
class Sample:
    """One run of a search.

    Attributes:
        run: as it is trained now; a member's hyperparameters may have changed on the way.
        values: its point of the space.
        measured: its newest validation loss, and what it cost where it has finished.
        forecast: of a stopped run, the validation loss at which it would have ended.
        failures: how often it failed.
    """

    run: RunSpec
    values: Mapping[str, Any]
    status: str
    measured: Mapping[str, float]
    forecast: float | None = None
    failures: int = 0

    @classmethod
    def read(cls, records: Store, search: Search, run: RunSpec) -> Sample:
        """What the store holds of a run."""
        state = records.state(run.id)
        history = records.attempts(run.id)
        ended = next((a for a in reversed(history) if a.ended), None)
        if run.member is not None and history:
            run = from_json(history[-1].opening()["row"]["spec"])
        row = ended.row() if ended is not None else {}
        loss = None if state.status == DIVERGED else row.get("valid_loss") or last_valid_loss(records, run.id)
        known = {"valid_loss": loss, **{name: row.get(name) for name in ("flops", "params", "seconds")}}
        measured = {name: value for name, value in known.items() if value is not None}
        forecast = (state.forecast or {}).get("loss")
        return cls(run, search.values(run), state.status, measured, forecast, state.failures)

    @property
    def goes_on(self) -> bool:
        """Whether the search trains it when it is given again: it was left, or may be tried once more."""
        tried = self.status == FAILED and self.failures <= MAX_RETRIES
        return tried or self.status in (INTERRUPTED, PENDING)

    @property
    def loss(self) -> float | None:
        """The newest validation loss; None where there is none, or where the run diverged."""
        return self.measured.get("valid_loss")

    def losses(self, objectives: Sequence[str]) -> list[float] | None:
        """What a sampler learns; of a run that was stopped, where it would have ended, since its last loss misleads.

        Several objectives are known at a run's end only.
        """
        if self.status not in (FINISHED, STOPPED) or any(name not in self.measured for name in objectives):
            return None
        early = self.status == STOPPED and self.forecast is not None
        known = {**self.measured, "valid_loss": self.forecast} if early else self.measured
        return [known[name] for name in objectives]


@dataclass(frozen=True)
class CellFound:
    """What a search found in one cell.

    Attributes:
        label: the cell, for people: architecture, width, size.
        base: the cell's run before the space replaced anything.
        samples: every run of the cell.
        best: the finished one with the lowest validation loss; None where none finished.
        edges: fields of the space at whose edge the best lies: it may lie beyond.
        front: with several objectives, the finished runs that none beats in all of them, by validation loss.
    """

    label: str
    base: RunSpec
    samples: Sequence[Sample]
    best: Sample | None
    edges: Sequence[str]
    front: Sequence[Sample]

    @property
    def loss(self) -> float | None:
        """The validation loss of the best."""
        return self.best.loss if self.best else None

    @property
    def trials(self) -> list[Trial]:
        """(values, status, validation loss) of every run."""
        return [(dict(s.values), s.status, s.loss) for s in self.samples]


@dataclass(frozen=True)
class SearchResult:
    """What a search found, by cell; of a search in one cell also directly.

    Attributes:
        cells: in the order of the search's grid.
    """

    cells: Sequence[CellFound]

    @property
    def best(self) -> RunSpec | None:
        """The finished run with the lowest validation loss; None where none finished."""
        best = self._only("best").best
        return best.run if best else None

    @property
    def loss(self) -> float | None:
        """Its validation loss."""
        return self._only("loss").loss

    @property
    def edges(self) -> Sequence[str]:
        """Fields of the space at whose edge it lies: the best may lie beyond."""
        return self._only("edges").edges

    @property
    def front(self) -> Sequence[Sample]:
        """With several objectives, the finished runs that none beats in all of them."""
        return self._only("front").front

    @property
    def trials(self) -> list[Trial]:
        """(values, status, validation loss) of every run of every cell."""
        return [trial for cell in self.cells for trial in cell.trials]

    def _only(self, asked: str) -> CellFound:
        if len(self.cells) > 1:
            raise ValueError(
                f"SearchResult.{asked} of {len(self.cells)} cells is not one value: losses of different cells are not "
                f"compared; read [cell.{asked} for cell in result.cells]."
            )
        return self.cells[0]


def samples_of(records: Store, search: Search) -> list[list[Sample]]:
    """Every run that the store holds of a search, by cell."""
    found: list[list[Sample]] = [[] for _ in search.cells]
    for run_id in records.studies().get(search.name, {}).get("runs", ()):
        run = records.spec(run_id)
        cell = search.cell_of(run)
        if cell is not None:
            found[cell].append(Sample.read(records, search, run))
    return found


def result_of(records: Store, search: Search) -> SearchResult:
    """What the store knows of a search."""
    pairs = zip(search.cells, samples_of(records, search), strict=True)
    return SearchResult([_found(search, cell, samples) for cell, samples in pairs])


def _found(search: Search, cell: RunSpec, samples: Sequence[Sample]) -> CellFound:
    finished = [s for s in samples if s.status == FINISHED and s.loss is not None]
    best = min(finished, key=lambda s: s.loss or 0.0, default=None)
    edges = search.choices.edges(best.values) if best else ()
    row = {"architecture": kind_of(cell.model), "width": cell.model.width, "examples": cell.data.size}
    label = label_of({**row, "seed": cell.seed})
    return CellFound(label, cell, samples, best, edges, pareto(finished, search.objectives))


def pareto(samples: Sequence[Sample], objectives: Sequence[str]) -> list[Sample]:
    """The samples that no other beats: none is as low in every objective and lower in one; () for one objective."""
    if len(objectives) < 2:
        return []
    rows = [(sample, losses) for sample in samples if (losses := sample.losses(objectives)) is not None]
    front = [s for s, mine in rows if not any(_beats(other, mine) for _, other in rows)]
    return sorted(front, key=lambda s: s.loss or 0.0)


def _beats(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and list(a) != list(b)


def by_loss(samples: Sequence[Sample]) -> list[Sample]:
    """Samples from the lowest validation loss up, those without one last."""
    return sorted(samples, key=lambda s: (s.loss is None, s.loss or 0.0))


def last_valid_loss(records: Store, run_id: str) -> float | None:
    """The newest validation loss of a run; None where it has none."""
    if not records.attempts(run_id):
        return None
    losses = [v for v in records.points(run_id)["valid_loss"].to_pylist() if v is not None]
    return losses[-1] if losses else None
