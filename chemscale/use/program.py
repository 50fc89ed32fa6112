"""A trained potential as a program for torch alone: energy, forces and virial of one structure, without this package.

    program = torch.export.load("model.pt2").module()
    energy, forces, virial = program(species, positions, pairs, shifts)

The gradients are part of the program: it is traced operation by operation (`make_fx`) with forces and virial inside,
for any number of atoms and pairs, and exported by `torch.export`, which alone cannot see through a gradient. Models
whose sizes depend on the numbers become none; none of this package's is such a one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chemscale.batch import AtomicBatch
from chemscale.models.potential import ELEMENTS, Potential
from chemscale.use.load import Trained

PROGRAM, COMPILED = "model.pt2", "model.aoti.pt2"
ATOMS, PAIRS = 7, 29  # of the structure that is traced: sizes that no part of a model has
AGREEMENT = 1e-4  # of the largest force, float32, between program and model: sums in another order


class Program(nn.Module):
    """What is exported.

    Its arguments are those of one structure: species (atoms,) int64, atomic numbers; positions (atoms, 3), angstrom;
    pairs (2, pairs) int64, each pair within the cutoff once; shifts (pairs, 3), angstrom, lattice vectors that bring
    the second atom to the image that is meant. It gives the energy (), eV, float64, with reference energies; forces
    (atoms, 3), eV/angstrom; and the virial (3, 3), eV, which over the volume is the stress.
    """

    def __init__(self, module: Potential, reference: Any) -> None:
        super().__init__()
        self.module = module
        self.reference: Tensor
        table = torch.zeros(ELEMENTS, dtype=torch.float64)
        for number, energy in reference.items():
            table[int(number)] = energy
        self.register_buffer("reference", table)

    def forward(self, species: Tensor, positions: Tensor, pairs: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        """Energy, forces and virial."""
        batch = AtomicBatch(species, positions, torch.zeros_like(species), pairs, 1, shifts=shifts)
        energy, forces, virial = self.module.sloped(batch)
        lone = self.reference.index_select(0, species).sum()
        return energy[0].double() + lone, forces, virial[0]


def traced(trained: Trained) -> torch.export.ExportedProgram:
    """The program of a trained potential.

    Raises:
        ValueError: the model does something that cannot be traced, or the program gives other numbers than the model.
    """
    import copy

    program = Program(copy.deepcopy(trained.module).eval().requires_grad_(False), trained.manifest.reference)  # type: ignore[arg-type]
    example = _example(trained, ATOMS, PAIRS)
    dynamic = torch.export.Dim.DYNAMIC
    sizes = ({0: dynamic}, {0: dynamic}, {1: dynamic}, {0: dynamic})
    try:
        graph = _graph(program, example)
        found = torch.export.export(graph, example, dynamic_shapes=sizes, strict=False)
    except Exception as error:  # of the tracer, the exporter or the model, of many kinds
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"run {trained.run.id}, a {trained.run.model.architecture}, cannot become a program for torch alone: "
            f"{said}; export it with --program none, and use it with chemscale.calculator."
        ) from None
    _compare(program, found.module(), trained)
    return found


def save_program(trained: Trained) -> Callable[[Path], None]:
    """What writes the program, portable between machines, to be loaded by `torch.export.load`."""
    found = traced(trained)

    def write(path: Path) -> None:
        """Save the program."""
        torch.export.save(found, path)

    return write


def save_compiled(trained: Trained) -> Callable[[Path], None]:
    """What writes the program as machine code for processors like this one (AOTInductor), a minute and more of work.

    `torch._inductor.aoti_load_package` loads it. It needs a C++ compiler here.
    """
    found = traced(trained)

    def write(path: Path) -> None:
        """Compile the program and package the machine code."""
        from torch._inductor import aoti_compile_and_package

        try:
            aoti_compile_and_package(found, package_path=str(path))
        except Exception as error:  # of the compiler, of many kinds
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(
                f"run {trained.run.id} cannot be compiled here: {said}; export it with --program portable."
            ) from None

    return write


PROGRAMS: dict[str, tuple[str, Callable[[Trained], Callable[[Path], None]]]] = {
    "portable": (PROGRAM, save_program),
    "compiled": (COMPILED, save_compiled),
}


def _graph(program: Program, example: tuple[Tensor, ...]) -> nn.Module:
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(program, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*example)


def _example(trained: Trained, atoms: int, pairs: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Arguments with so many atoms and pairs, all of which are within the cutoff."""
    random = np.random.default_rng(seed)
    dtype = next(trained.module.parameters()).dtype
    cutoff = float(trained.run.model.view["cutoff"])
    positions = random.normal(size=(atoms, 3))
    first = random.integers(0, atoms, pairs)
    second = (first + random.integers(1, atoms, pairs)) % atoms
    direction = random.normal(size=(pairs, 3))
    reach = random.uniform(0.4, 0.95, pairs) * cutoff
    apart = direction * (reach / np.linalg.norm(direction, axis=1))[:, None]
    shifts = apart - (positions[second] - positions[first])
    species = random.choice(trained.manifest.species, atoms)
    return (
        torch.as_tensor(species).long(), torch.as_tensor(positions).to(dtype),
        torch.as_tensor(np.stack((first, second))), torch.as_tensor(shifts).to(dtype),
    )  # fmt: skip


def _compare(program: Callable[..., Any], made: Callable[..., Any], trained: Trained) -> None:
    """Refuse a program whose numbers differ from the model's at other sizes than the traced one."""
    for atoms, pairs in ((ATOMS, PAIRS), (11, 53), (2, 1)):
        example = _example(trained, atoms, pairs, seed=1)
        for expected, found in zip(program(*example), made(*example), strict=True):
            if not torch.allclose(found, expected, rtol=AGREEMENT, atol=AGREEMENT * float(expected.abs().max())):
                raise ValueError(
                    f"the program of run {trained.run.id} differs from its model at {atoms} atoms by "
                    f"{float((found - expected).abs().max()):.3g}; export it with --program none."
                )
