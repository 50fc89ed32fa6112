"""How far a label can be trusted: structures labelled again, far tighter and from another first guess.

Units: energies eV per atom unless a name says molecule, forces eV/angstrom per component.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chemscale.data.labelling.conformers import derive_seed
from chemscale.data.labelling.disk import Structure
from chemscale.data.labelling.gfn2 import ConvergenceError, Settings, evaluate
from chemscale.data.parallel import Progress, in_processes

TIGHT = Settings(accuracy=1e-4)  # the tightest that tblite offers
TIGHT_OTHER_GUESS = Settings(accuracy=1e-4, guess="eeq")
COLD = Settings(electronic_temperature=150.0)  # half of the labels'
STATE_JUMP = 0.01  # eV in a whole molecule: far above what a converged SCC leaves open
DISTORTED = 0.2  # share of the structures labelled again that are those with the largest forces
ONE_IN = 20  # structures labelled again, at least


def measure_noise(
    structures: Callable[[], Iterable[Structure]], count: int, processes: int | None, bar: Progress
) -> dict[str, Any]:
    """Floors (`NoiseFloor` as dicts) of an even sample and of the most distorted structures.

    `count` structures, or one in ONE_IN where that is more, of those that `structures` gives each time it is called;
    only those that are chosen are held in memory. The choice depends on nothing but the structures.
    """
    strength, temperature, order = [], [], []
    for s in structures():
        strength.append(np.linalg.norm(s.forces, axis=1).max())
        temperature.append(s.temperature)
        order.append(derive_seed("noise", s.smiles, s.conformer))
    count = number_to_label_again(len(order), count)
    strongest = np.array(strength)
    distorted = np.argsort(-strongest, kind="stable")[: round(DISTORTED * count)].tolist()
    chosen = [*even_sample(temperature, order, count - len(distorted)), *distorted]
    wanted = set(chosen)
    held = {index: s for index, s in enumerate(structures()) if index in wanted}
    found: list[Deviation | None] = []
    for again in in_processes(deviation, (held[index] for index in chosen), processes):
        found.append(again)
        bar.advance(1)
    first = count - len(distorted)
    report = {"sample": asdict(summarise(found[:first]))}
    if distorted:
        report["most_distorted"] = asdict(summarise(found[first:]))
        report["most_distorted"]["forces_from"] = float(strongest[distorted].min())
    return report


def number_to_label_again(structures: int, wanted: int) -> int:
    """How many structures `measure_noise` takes."""
    return min(max(wanted, -(-structures // ONE_IN)), structures)


@dataclass(frozen=True)
class Deviation:
    """One structure labelled again; all differences are label minus tight label, or COLD minus label.

    energy and cold_energy in eV per atom, forces and cold_forces (3n,); jump: eV in the whole molecule
    between the tight states that two first guesses lead to, or between the label and the lower one,
    whichever is larger.
    """

    energy: float
    forces: NDArray[np.float64]
    jump: float
    cold_energy: float
    cold_forces: NDArray[np.float64]


def deviation(structure: Structure) -> Deviation | None:
    """Label one structure again, far tighter, from two guesses; None if an SCC does not converge."""
    species, positions, energy = structure.species, structure.positions, structure.energy
    try:
        state = {"charge": structure.charge, "spin": structure.spin}
        states = [evaluate(species, positions, settings, **state) for settings in (TIGHT, TIGHT_OTHER_GUESS)]
        cold = evaluate(species, positions, COLD, **state)
    except ConvergenceError:
        return None
    lowest = min(states, key=lambda state: state.energy)
    return Deviation(
        energy=(energy - lowest.energy) / len(species),
        forces=(structure.forces - lowest.forces).ravel(),
        jump=max(abs(states[0].energy - states[1].energy), abs(energy - lowest.energy)),
        cold_energy=(cold.energy - energy) / len(species),
        cold_forces=(cold.forces - structure.forces).ravel(),
    )


@dataclass(frozen=True)
class NoiseFloor:
    """Errors of labels against tight ones: energy eV/atom, forces eV/angstrom per component.

    A state jump is a structure whose SCC lands in another state (over STATE_JUMP eV per molecule) from
    another guess or at the labels' accuracy. Jumps count in the errors; `force_rmse_without_jumps` leaves
    them out.
    """

    structures: int
    not_converged: int
    energy_mae: float
    energy_rmse: float
    force_mae: float
    force_rmse: float
    force_rmse_without_jumps: float
    state_jumps: int
    largest_jump: float  # eV per molecule
    cold_energy_mae: float  # what electrons at 150 K change, against 300 K
    cold_force_mae: float


def summarise(deviations: list[Deviation | None]) -> NoiseFloor:
    """Deviations of many structures as one floor. Raises ValueError where none converged."""
    good = [d for d in deviations if d is not None]
    if not good:
        raise ValueError("noise: not one structure converged at tight accuracy; give a larger number, or 0.")
    energy = np.array([d.energy for d in good])
    forces = np.concatenate([d.forces for d in good])
    calm = [d.forces for d in good if d.jump <= STATE_JUMP]
    return NoiseFloor(
        structures=len(good),
        not_converged=len(deviations) - len(good),
        energy_mae=_mae(energy),
        energy_rmse=_rmse(energy),
        force_mae=_mae(forces),
        force_rmse=_rmse(forces),
        force_rmse_without_jumps=_rmse(np.concatenate(calm)) if calm else _rmse(forces),
        state_jumps=len(good) - len(calm),
        largest_jump=max(d.jump for d in good),
        cold_energy_mae=_mae(np.array([d.cold_energy for d in good])),
        cold_force_mae=_mae(np.concatenate([d.cold_forces for d in good])),
    )


def _mae(errors: NDArray[np.float64]) -> float:
    return float(np.abs(errors).mean())


def _rmse(errors: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(errors).mean()))


def even_sample(temperatures: list[float], order: Sequence[Any], count: int) -> list[int]:
    """Indices of `count` structures, as even over temperatures as can be, else in the order of the keys in `order`."""
    by_temperature: dict[float, list[int]] = {}
    for index in sorted(range(len(order)), key=order.__getitem__):
        by_temperature.setdefault(temperatures[index], []).append(index)
    rounds = [(rank, t, index) for t, found in by_temperature.items() for rank, index in enumerate(found)]
    return [index for _, _, index in sorted(rounds)[:count]]
