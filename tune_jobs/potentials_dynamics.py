"""A potential from labels to dynamics: train it, relax a molecule, keep its energy, hold its temperature.

    chemscale sweep tune_jobs/potentials_dynamics.py --store runs/dynamics
    python -m tune_jobs.potentials_dynamics runs/dynamics --molecule CH3CH2OH

The second command works with every store that holds a finished potential, and with what `chemscale export` wrote. Its
last two numbers say whether the potential can be trusted to move: a total energy that swings by a share of the kinetic
energy's range that falls fourfold with half the step, and a mean temperature that is the thermostat's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import chemscale as cs
from chemscale.models import PaiNN
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import Grid

FORCE = 0.02  # eV/angstrom: a relaxed structure has no larger one
FRICTION = 0.01  # 1/fs: the thermostat forgets a velocity in 100 fs
SETTLED = 1 / 3  # of a trajectory, which its mean leaves out


@dataclass(frozen=True)
class Moved:
    """What a trajectory did.

    Attributes:
        swing, drift: of the total energy, as shares of the kinetic energy's range.
        temperature: kelvin, the mean.
    """

    swing: float
    drift: float
    temperature: float


def recipe(
    widths: Sequence[int] = (32,), sizes: Sequence[int] = (), source: str = "fragments-gfn2", updates: int = 6_000
) -> Grid:
    """One PaiNN on all embedded structures."""
    base = RunSpec(
        model=PaiNN.sized(width=widths[0]),
        data=Data(source),
        optim=Optim(batch=8),
        budget=Budget(updates=updates),
        evaluation=Evaluation(points=6, valid=256, test=800),
    )
    return Grid(base, models=[PaiNN.sized(width=width) for width in widths], sizes=sizes)


def relaxed(atoms: Any, steps: int = 500) -> bool:
    """Move the atoms to a minimum of the energy; whether that was reached."""
    from ase.optimize import BFGS

    return bool(BFGS(atoms, logfile=None).run(fmax=FORCE, steps=steps))


def warmed(atoms: Any, kelvin: float, seed: int = 0) -> None:
    """Give the atoms velocities of this temperature, and no motion as a whole."""
    from ase import units
    from ase.md.velocitydistribution import Stationary

    widths = np.sqrt(kelvin * units.kB * atoms.get_masses())[:, None]  # of Maxwell and Boltzmann
    atoms.set_momenta(widths * np.random.default_rng(seed).normal(size=(len(atoms), 3)))
    Stationary(atoms)


def at_constant_energy(atoms: Any, steps: int, femtoseconds: float = 0.5) -> Moved:
    """Velocity Verlet."""
    from ase import units
    from ase.md.verlet import VelocityVerlet

    with VelocityVerlet(atoms, femtoseconds * units.fs) as dynamics:
        return _followed(atoms, dynamics, steps)


def at_constant_temperature(atoms: Any, kelvin: float, steps: int, femtoseconds: float = 0.5, seed: int = 0) -> Moved:
    """Langevin's equation."""
    from ase import units
    from ase.md.langevin import Langevin

    with Langevin(
        atoms, femtoseconds * units.fs, temperature_K=kelvin, friction=FRICTION / units.fs, fixcm=False,
        rng=np.random.default_rng(seed),
    ) as dynamics:  # fmt: skip
        return _followed(atoms, dynamics, steps)


def _followed(atoms: Any, dynamics: Any, steps: int) -> Moved:
    told = [
        (atoms.get_total_energy(), atoms.get_kinetic_energy(), atoms.get_temperature()) for _ in dynamics.irun(steps)
    ]
    total, kinetic, kelvin = np.array(told).T
    third = max(1, int(len(total) * SETTLED))
    scale = float(np.ptp(kinetic)) or 1.0
    drift = float(total[-third:].mean() - total[:third].mean())
    return Moved(float(np.ptp(total)) / scale, drift / scale, float(kelvin[third:].mean()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Relax and move one molecule by a trained potential."""
    from ase.build import molecule

    parser = argparse.ArgumentParser(description="Relax and move a molecule by a trained potential.")
    parser.add_argument("potential", help="a store, or a folder that `chemscale export` wrote")
    parser.add_argument("--run", help="default: the potential with the lowest test loss")
    parser.add_argument("--molecule", default="CH3CH2OH", help="a name that ase.build.molecule knows")
    parser.add_argument("--steps", type=int, default=2_000, help="of 0.5 fs each (default 2000)")
    parser.add_argument("--kelvin", type=float, default=300.0)
    given = parser.parse_args(arguments)
    atoms = molecule(given.molecule)
    atoms.calc = cs.calculator(given.potential, given.run)
    ended = relaxed(atoms)
    print(f"relaxed: {atoms.get_potential_energy():.4f} eV, {'converged' if ended else 'not converged'}")
    rest = atoms.positions.copy()
    warmed(atoms, given.kelvin)
    kept = at_constant_energy(atoms, given.steps)
    print(f"NVE: the energy swings by {kept.swing:.2%} of the kinetic energy's range, drifts by {kept.drift:.2%}")
    atoms.positions = rest
    warmed(atoms, given.kelvin)
    held = at_constant_temperature(atoms, given.kelvin, given.steps)
    print(f"NVT: {held.temperature:.0f} K where {given.kelvin:g} were asked for")


if __name__ == "__main__":
    main()
