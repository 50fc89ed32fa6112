"""A text model to use, wherever it lies: a run of a store, or a folder of the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from chemscale.batch import TextManifest
from chemscale.records.store import Store
from chemscale.train.exported import is_exported
from chemscale.train.origins import Origin
from chemscale.train.released import is_released
from chemscale.use.find import trained_in
from chemscale.use.hub import load_folder
from chemscale.use.load import unshown


@dataclass(frozen=True)
class TextModel:
    """A trained text model: `module` in evaluation mode on the processor, `manifest` with its alphabet.

    Attributes:
        name: "run 1a2b…" or "folder …", as people read it. run: its id, None of a folder.
        content: of the weights and the alphabet; what was asked of other weights is another request.
        never: ids that are not to be drawn: training never showed them.
    """

    module: nn.Module
    manifest: TextManifest
    name: str
    content: str
    never: tuple[int, ...]
    run: str | None = None

    @property
    def examples(self) -> str:
        """What it reads and writes, in words."""
        return "proteins" if self.manifest.representation == "protein" else "molecules"

    @property
    def width(self) -> int:
        """Of its hidden states."""
        return int(self.module.config.width)  # type: ignore[union-attr,arg-type]


def text_model(source: str | Path, run: str | None = None) -> TextModel:
    """The text model of a run, or of a folder of the hub.

    Args:
        source: a store, or a folder in the layout of the hub (what `chemscale export` writes, or a released one).
        run: of a store: an id or an unambiguous beginning of one; None is the text run with the lowest test loss.

    Raises:
        ValueError: there is no such model, it is none of strings, or `run` is given for a folder.
    """
    folder = Path(source).expanduser()
    if is_exported(folder):
        raise ValueError(f"{str(source)!r} is an exported potential, which knows no strings; give a text model.")
    if "://" in str(source) or not is_released(folder):
        return _of_run(Store(source), run)
    if run is not None:
        raise ValueError(f"{str(source)!r} is a folder of the hub, which holds one model; leave out --run {run}.")
    found = load_folder(folder)
    origin = Origin(found.model, found.module.state_dict(), found.manifest, str(source))
    return TextModel(found.module, found.manifest, f"folder {source}", origin.content, found.never)


def _of_run(store: Store, run: str | None) -> TextModel:
    trained = trained_in(store, run, "text")
    name, never = trained.run.id, unshown(trained)
    return TextModel(trained.module, trained.manifest, f"run {name}", name, never, name)
