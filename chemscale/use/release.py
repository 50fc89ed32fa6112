"""A trained potential as a folder that stands alone: weights, what they were made of, a card; and back, exactly.

    FOLDER/
      config.json         the run's spec, the manifest of its data (elements, reference energies, scale), units
      model.safetensors   the weights, in the type that they were trained in
      README.md           the model card
      model.pt2           the potential as a program for torch alone (`chemscale.use.program`)

Reading needs neither the store nor the data of the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chemscale import __version__
from chemscale.train.exported import CONFIG, KIND, TENSORS, VERSION, read_exported, unlike
from chemscale.train.precision import parameter_type
from chemscale.use.folder import require_new, write_folder
from chemscale.use.load import Trained

CARD = "README.md"
UNITS = {"length": "angstrom", "energy": "eV", "forces": "eV/angstrom", "stress": "eV/angstrom^3"}


def read_release(folder: str | Path) -> Trained:
    """The trained potential of a folder that `write_release` wrote.

    Raises:
        ValueError: a file is missing or damaged, or of a newer chemscale.
    """
    found = read_exported(folder)
    module = found.run.model.build(found.manifest).to(parameter_type(found.run.precision))
    try:
        module.load_state_dict(dict(found.weights))
    except RuntimeError as error:
        raise ValueError(unlike(Path(folder), error)) from None
    return Trained(found.run, module.eval(), found.manifest)


def write_release(
    trained: Trained, out: str | Path, card: str, programs: dict[str, Callable[[Path], None]] | None = None
) -> Path:
    """Write a trained potential as a folder; whole or not at all.

    Args:
        out: a new or empty folder.
        card: the text of README.md.
        programs: name of a further file -> what writes it there.

    Raises:
        ValueError: the folder is not empty or cannot be made, or `safetensors` is missing.
    """
    config = json.dumps(config_of(trained), indent=2, ensure_ascii=False) + "\n"
    return write_folder(Path(out), {CONFIG: config, CARD: card}, (TENSORS, trained.module.state_dict()), programs)


def export_potential(
    trained: Trained,
    out: str | Path,
    *,
    row: dict[str, Any] | None = None,
    licence: str | None = None,
    program: str = "portable",
) -> Path:
    """Write a finished run of a potential as a folder that needs neither its store nor its data.

    Args:
        row: its row of RUNS, from which the model card takes errors.
        licence: of the weights, as the hub spells it ("mit"), for the card.
        program: beside the weights, "portable" for `torch.export.load`, "compiled" for processors like this one
            (AOTInductor, a minute and more of work), or "none".

    Raises:
        ValueError: the run is no potential, cannot become such a program, or the folder is not empty.
    """  # fmt: skip
    from chemscale.use.potential_card import potential_card
    from chemscale.use.program import PROGRAMS

    model = trained.run.model
    if model.family != "structures":
        raise ValueError(f"run {trained.run.id} is a {model.architecture}; this needs a potential.")
    if program != "none" and program not in PROGRAMS:
        raise ValueError(f"program={program!r} is not allowed: it must be one of {', '.join(PROGRAMS)}, none.")
    require_new(Path(out))
    programs = {}
    if program != "none":
        name, make = PROGRAMS[program]
        programs[name] = make(trained)
    return write_release(trained, out, potential_card(trained, row or {}, licence, program), programs)


def config_of(trained: Trained) -> dict[str, Any]:
    """What config.json says."""
    return {
        "kind": KIND,
        "version": VERSION,
        "chemscale": __version__,
        "run_id": trained.run.id,
        "run": json.loads(trained.run.to_json()),
        "manifest": trained.manifest.to_dict(),
        "units": UNITS,
    }
