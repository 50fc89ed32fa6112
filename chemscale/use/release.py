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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from chemscale import __version__
from chemscale.batch import AtomicManifest
from chemscale.data.staging import OccupiedError, whole_folder
from chemscale.spec import from_json
from chemscale.train.precision import parameter_type
from chemscale.use.load import Trained

CONFIG, TENSORS, CARD = "config.json", "model.safetensors", "README.md"
KIND = "chemscale potential"
VERSION = 1  # of the layout
UNITS = {"length": "angstrom", "energy": "eV", "forces": "eV/angstrom", "stress": "eV/angstrom^3"}


def is_release(folder: str | Path) -> bool:
    """Whether a folder is an exported potential."""
    try:
        return json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8")).get("kind") == KIND
    except (OSError, ValueError, AttributeError):
        return False


def read_release(folder: str | Path) -> Trained:
    """The trained potential of a folder that `write_release` wrote.

    Raises:
        ValueError: a file is missing or damaged, or of a newer chemscale.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config["version"] > VERSION:
        raise ValueError(f"{folder} has layout {config['version']}, this chemscale reads up to {VERSION}; upgrade it.")
    run = from_json(json.dumps(config["run"]))
    manifest = _manifest(config["manifest"])
    module = run.model.build(manifest).to(parameter_type(run.precision))
    try:
        module.load_state_dict(load_file(folder / TENSORS))
    except (
        Exception
    ) as error:  # safetensors has a class of its own, a missing file is an OSError, a wrong key is torch's
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{folder / TENSORS} does not hold the weights of {CONFIG}: {said}; export it again."
        ) from None
    return Trained(run, module.eval(), manifest)


def write_release(
    trained: Trained, out: str | Path, card: str, programs: dict[str, Callable[[Path], None]] | None = None
) -> Path:
    """Write a trained potential as a folder; whole or not at all.

    Args:
        out: a new or empty folder.
        card: the text of README.md.
        programs: name of a further file -> what writes it there.

    Raises:
        ValueError: the folder is not empty, or `safetensors` is missing.
    """
    out = Path(out)
    refuse_full(out)
    with whole_release(out) as room:
        (room / CONFIG).write_text(json.dumps(config_of(trained), indent=2, ensure_ascii=False) + "\n", "utf-8")
        (room / CARD).write_text(card, "utf-8")
        _save(trained.module.state_dict(), room / TENSORS)
        for name, write in (programs or {}).items():
            write(room / name)
    return out


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
    refuse_full(Path(out))
    programs = {}
    if program != "none":
        name, make = PROGRAMS[program]
        programs[name] = make(trained)
    return write_release(trained, out, potential_card(trained, row or {}, licence, program), programs)


def refuse_full(out: Path) -> None:
    """Refuse a folder that holds something already.

    Raises:
        ValueError: it does.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {str(out)!r} is there and not empty; give a new folder.")


@contextmanager
def whole_release(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when all that is in it has been written; a kill leaves nothing of that name.

    Raises:
        ValueError: it cannot be made, or somebody else has filled it meanwhile.
    """
    try:
        with whole_folder(out) as room:
            yield room
    except OccupiedError:
        refuse_full(out)
        raise
    except OSError as error:
        raise ValueError(f"--out {str(out)!r} cannot be made: {error.strerror}; give another folder.") from None


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


def _manifest(tree: dict[str, Any]) -> AtomicManifest:
    known = {f.name for f in fields(AtomicManifest)}
    values = {name: value for name, value in tree.items() if name in known}
    values["species"] = tuple(values["species"])
    values["reference"] = {int(z): energy for z, energy in values["reference"].items()}
    return AtomicManifest(**values)


def _save(weights: dict[str, Tensor], path: Path) -> None:
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise ValueError("export needs the package safetensors; run `pip install 'chemscale[hub]'`.") from None
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata={"format": "pt"})
