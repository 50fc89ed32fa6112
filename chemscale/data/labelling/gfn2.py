"""GFN2-xTB energies and forces by tblite, and how far they can be trusted as labels.

Bannwarth, Ehlert & Grimme, J. Chem. Theory Comput. 15, 1652 (2019). Units: eV, eV/angstrom, angstrom, K.
"""

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

HARTREE = 27.211386245988  # eV, CODATA 2018
BOHR = 0.529177210903  # angstrom, CODATA 2018
KELVIN = 3.166811563e-6  # Hartree/K, CODATA 2018
MISSING = "Labels need tblite; install it by: pip install 'chemscale[label]'."
GUESSES = {"sad": 0, "eeq": 1}


class ConvergenceError(RuntimeError):
    """The self-consistent charges did not converge, or gave no finite number."""


@dataclass(frozen=True)
class Settings:
    """How a label is computed: tblite's accuracy (1 is its default, smaller is tighter) and first guess."""

    accuracy: float = 1.0
    guess: str = "sad"
    electronic_temperature: float = 300.0  # K


@dataclass(frozen=True)
class Label:
    """Energy (eV) and forces float64 (n, 3) (eV/angstrom) of one geometry."""

    energy: float
    forces: NDArray[np.float64]


def evaluate(
    species: NDArray[np.integer],
    positions: NDArray[np.floating],
    settings: Settings = Settings(),
    *,
    charge: int = 0,
    spin: int = 0,
) -> Label:
    """The label of a molecule: species (n,), positions (n, 3) angstrom, as they are; charge; unpaired electrons.

    Raises ConvergenceError, and ValueError without tblite.
    """
    return Evaluator(species, settings, charge, spin)(positions)


class Evaluator:
    """Labels of geometries of one molecule, one after the other; each starts from a first guess of its own, so that no
    label depends on those before it. Species (n,), charge, and unpaired electrons."""

    def __init__(
        self, species: NDArray[np.integer], settings: Settings = Settings(), charge: int = 0, spin: int = 0
    ) -> None:
        self._species, self._settings = np.asarray(species, int), settings
        self._charge, self._spin = charge, spin
        self._calculator: Any = None

    def __call__(self, positions: NDArray[np.floating]) -> Label:
        """The label of positions (n, 3), angstrom. Raises as `evaluate` does."""
        calculator_of, failures = _tblite()
        places = np.asarray(positions, float) / BOHR
        try:
            if self._calculator is None:
                self._calculator = self._set_up(calculator_of, places)
            else:
                self._calculator.update(places)
            result = self._calculator.singlepoint()
        except failures as failure:
            raise ConvergenceError(str(failure)) from failure
        label = Label(float(result.get("energy")) * HARTREE, -result.get("gradient") * (HARTREE / BOHR))
        if not (np.isfinite(label.energy) and np.isfinite(label.forces).all()):
            raise ConvergenceError("energy or forces are not finite")
        return label

    def _set_up(self, calculator_of: Any, places: NDArray[np.float64]) -> Any:
        found = calculator_of("GFN2-xTB", self._species, places, charge=self._charge, uhf=self._spin)
        found.set("verbosity", 0)
        found.set("accuracy", self._settings.accuracy)
        found.set("guess", GUESSES[self._settings.guess])
        found.set("temperature", self._settings.electronic_temperature * KELVIN)
        return found


@cache
def _tblite() -> tuple[Any, type[Exception]]:
    """tblite's calculator and its error, loaded so that it runs on one thread: sums then have one order."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read once, when the OpenMP library loads
    try:
        from tblite.exceptions import TBLiteRuntimeError
        from tblite.interface import Calculator
    except ImportError as missing:
        raise ValueError(MISSING) from missing
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
    return Calculator, TBLiteRuntimeError
