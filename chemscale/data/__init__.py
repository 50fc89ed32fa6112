"""Examples in: named, checksummed, memory-mapped, nested by size.

build("moses")                                      # once; later calls find it built
examples = open_data(Data("moses"), {"context": 64})
examples.batch(examples.subset(1000, key=0, per_group=None)[:32])
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.batch import Manifest, TextManifest
from chemscale.data.examples import AtomicExamples, Examples, TextExamples, open_examples
from chemscale.data.sources import Source, built_folder, fetched, folder_of, resolve, sources
from chemscale.data.store import MANIFEST_FILE, REJECTED_FILE, open_arrays, read_manifest
from chemscale.data.store import verify as verify_folder
from chemscale.spec import Data

__all__ = [
    "AtomicExamples",
    "Examples",
    "Source",
    "TextExamples",
    "build",
    "fetch",
    "manifest",
    "open_data",
    "report",
    "sources",
    "verify",
]

REPRESENTATIONS = ("selfies", "smiles")


def build(
    source: str,
    *,
    representation: str = "selfies",
    processes: int | None = None,
    progress: bool | None = None,
) -> Manifest:
    """Build a known source or a user's file, whole or not at all; nothing to do where it is built already.

    Args:
        source: a name of `sources()`, or the path of a file.
        representation: of molecules, "selfies" or "smiles"; structures ignore it.
        processes: how many work at it; None takes every processor.
        progress: None shows a bar on a terminal and lines elsewhere; False shows nothing.

    Raises:
        ValueError: the source is unknown, not fetched, or holds nothing that can be used.
    """
    if representation not in REPRESENTATIONS:
        raise ValueError(f"representation={representation!r} is not one of {', '.join(REPRESENTATIONS)}.")
    found = resolve(source)
    folder = folder_of(found, representation)
    if (folder / MANIFEST_FILE).is_file():
        return read_manifest(folder)
    if found.family == "text":
        from chemscale.data.molecules import build_molecules

        return build_molecules(found, folder, representation, processes, progress)
    from chemscale.data.structures import build_structures

    return build_structures(found, folder, processes, progress)


def manifest(data: Data) -> Manifest:
    """What a built source says of itself.

    Raises:
        ValueError: it is not built (the message names the command), or is not what `data.content` says.
    """
    found = read_manifest(_folder(data))
    if data.content is not None and data.content != found.content:
        raise ValueError(
            f"Data.content={data.content[:16]} is not what {data.source!r} holds here ({found.content[:16]}); "
            "use the file that the run was made with, or leave content open."
        )
    return found


def open_data(data: Data, view: Mapping[str, Any]) -> TextExamples | AtomicExamples:
    """The examples of a built source, the way a model views them: {"context": tokens} or {"cutoff":
    angstrom}.

    Raises:
        ValueError: it is not built, is not what `data.content` says, or does not suit the view.
    """
    return open_examples(_folder(data), manifest(data), view)


def fetch(name: str) -> Path:
    """Download what the package does not ship: "moses", after which `build("moses-full")` and its metrics work.

    Raises:
        ValueError: nothing of that name can be fetched.
        RuntimeError: the download failed, or brought another file than the known one.
    """
    if name not in ("moses", "moses-full"):
        raise ValueError(f"{name!r} cannot be fetched; the one name that can is moses.")
    from chemscale.data.moses import fetch_moses
    from chemscale.data.moses_published import fetch_published

    fetch_published(fetched("moses-published"))
    return fetch_moses(fetched("moses"))


def verify(source: str, *, representation: str = "selfies") -> None:
    """Compare every array of a built source with its checksum.

    Raises:
        ValueError: it is not built, or an array is not what was built.
    """
    verify_folder(built_folder(resolve(source), representation))


def report(source: str, *, representation: str = "selfies", progress: bool | None = None) -> dict[str, Any]:
    """What a source holds, as plain values: counts, lengths, vocabulary or elements, what was rejected, where.

    Builds it first where it is not built, with progress shown as `build` does.

    Raises:
        ValueError: `build` refuses it.
    """
    build(source, representation=representation, progress=progress)
    data = Data(source, representation=representation)
    folder, found = _folder(data), manifest(data)
    sizes = np.diff(open_arrays(folder)["offsets"])
    text = isinstance(found, TextManifest)
    lengths = {
        "mean": float(sizes.mean()),
        "longest": int(sizes.max()),
        "unit": "tokens" if text else "atoms",
    }
    own = {k: v for k, v in found.to_dict().items() if v or k in ("rejected", "counts")}
    return {**own, "lengths": lengths, "folder": str(folder), "rejected_file": str(folder / REJECTED_FILE)}


def _folder(data: Data) -> Path:
    return built_folder(resolve(data.source), data.representation)
