"""The model card of an exported potential: what it is, its units, how good it is, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chemscale import __version__
from chemscale.train.exported import CONFIG, TENSORS
from chemscale.use.atoms import symbols_of
from chemscale.use.card import hub_header, loss_facts, training_facts
from chemscale.use.load import Trained
from chemscale.use.program import COMPILED, PROGRAM

LOADERS = {
    "portable": f'program = torch.export.load(FOLDER + "/{PROGRAM}").module()',
    "compiled": f'program = torch._inductor.aoti_load_package(FOLDER + "/{COMPILED}")',
}


def potential_card(trained: Trained, row: Mapping[str, Any], licence: str | None, program: str) -> str:
    """README.md of the folder, with the hub's header.

    Args:
        row: the run's row of RUNS; what it lacks is left out.
        licence: of the weights, as the hub spells it; None leaves it open.
        program: "portable", "compiled" or "none": what lies beside the weights.
    """
    run, manifest = trained.run, trained.manifest
    facts = {**_model(trained), **training_facts(trained, row, "structures"), **loss_facts(row, "structures")}
    said = f"the weights: {licence}" if licence else "the weights: not stated"
    parts = [
        hub_header(licence, "tags: [chemistry, interatomic-potential, chemscale]"),
        f"# {run.model.architecture} of width {run.model.width}, run {run.id}",
        f"A potential of atoms, trained and exported by chemscale {__version__}: energies of structures, with forces "
        "and stresses as derivatives.",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]),
        _units(trained),
        _with_chemscale(),
        *([_alone(trained, program)] if program in LOADERS else []),
        f"## Files\n\n`{TENSORS}`: the weights. `{CONFIG}`: the run's spec, elements, reference energies and scale.",
        f"## Licence\n\nThe training data: {manifest.licence}. {said[0].upper()}{said[1:]}.",
    ]
    if manifest.citation:
        parts.append(f"## Citation\n\n{manifest.citation}.")
    return "\n\n".join(parts) + "\n"


def _model(trained: Trained) -> dict[str, str]:
    model, manifest = trained.run.model, trained.manifest
    return {
        "shape": f"depth {model.depth}, width {model.width}, cutoff {model.view['cutoff']:g} angstrom",
        "parameters": f"{sum(p.numel() for p in trained.module.parameters()):,}",
        "elements": ", ".join(symbols_of(manifest.species)),
        "largest structure": f"{manifest.largest} atoms",
    }


def _units(trained: Trained) -> str:
    references = ", ".join(
        f"{symbol} {trained.manifest.reference[z]:.6g}"
        for z, symbol in zip(trained.manifest.species, symbols_of(trained.manifest.species), strict=True)
    )
    origin = trained.manifest.notes.get("reference", "not stated")
    return (
        "## Units\n\nLengths angstrom, energies eV, forces eV/angstrom, stresses eV/angstrom^3 (positive where a cell "
        f"is pulled). Energies are totals, as the labels were; they hold the reference energies of the atoms in eV: "
        f"{references} ({origin})."
    )


def _with_chemscale() -> str:
    return """## In chemscale and ASE

```python
import chemscale

atoms.calc = chemscale.calculator(FOLDER)
print(atoms.get_potential_energy(), atoms.get_forces())
```"""


def _alone(trained: Trained, program: str) -> str:
    dtype = str(next(trained.module.parameters()).dtype)
    cutoff = f"{trained.run.model.view['cutoff']:g}"
    return f"""## With torch alone

One structure at a time, of any size; each pair of atoms within {cutoff} angstrom stands once.

```python
import torch
from ase.neighborlist import neighbor_list

{LOADERS[program]}
i, j, image = neighbor_list("ijS", atoms, {cutoff})
once = [(*s, b - a) > (0, 0, 0, 0) for a, b, s in zip(i, j, image.tolist())]
energy, forces, virial = program(
    torch.tensor(atoms.numbers),
    torch.tensor(atoms.positions, dtype={dtype}),
    torch.stack((torch.tensor(i), torch.tensor(j)))[:, once],
    torch.tensor(image[once] @ atoms.cell.array, dtype={dtype}),
)
stress = virial / atoms.get_volume()  # of a periodic cell
```

Elements other than those above give numbers without meaning: the program does not check them."""
