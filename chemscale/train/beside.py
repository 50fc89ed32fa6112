"""What is measured of a trained model beside its losses, where somebody asks for it; it changes no run and no id."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import nn

from chemscale.records.place import Place
from chemscale.records.store import Store
from chemscale.spec import Resources, RunSpec
from chemscale.train.precision import parameter_type

PULSE_SECONDS = 0.5  # between two signs of life while something is measured beside the losses


class Beside(Protocol):
    """Measures finished runs beside their losses and keeps what it finds in their store.

    A worker calls `measure` at the end of each run; the driver calls `require` before the first and `catch_up` after
    the last, which measures what a worker could not and what had finished before.
    """

    def require(self) -> None:
        """Raises ValueError where it cannot be measured on this machine."""
        ...

    def wants(self, run: RunSpec, place: Place) -> bool:
        """Whether this run is one to measure, and has not been measured in the store at this place."""
        ...

    def measure(self, run: RunSpec, module: nn.Module, manifest: Any, place: Place, on: Resources) -> None:
        """Measure a trained module, in evaluation mode on the processor, and keep what was found."""
        ...

    def catch_up(self, store: Store, runs: Mapping[str, RunSpec]) -> None:
        """Measure those of these runs (by id) that have finished and were not measured."""
        ...


def built(run: RunSpec, weights: Mapping[str, Any], manifest: Any) -> nn.Module:
    """A module of its own with these weights, in evaluation mode on the processor."""
    module = run.model.build(manifest).to(parameter_type(run.precision))
    module.load_state_dict(dict(weights))
    return module.eval()


def with_pulse(work: Callable[[], None], pulse: Callable[[], None]) -> None:
    """Do the work while `pulse` is called twice a second; what either raises is raised here.

    The work has a thread of its own, since a scheduler has to be answered by the thread that the run is in. Where
    `pulse` ends the run the work is left to end by itself.
    """
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(PULSE_SECONDS)
        pulse()
    if raised:
        raise raised[0]
