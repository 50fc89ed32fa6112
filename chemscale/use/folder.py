"""A folder that stands alone, as exports are: texts, weights and more, whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor


def require_new(out: Path) -> None:
    """Refuse a folder that holds something already, and a file.

    Raises:
        ValueError: it does, or is one.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {str(out)!r} is there and not empty; give a new folder.")


def write_folder(
    out: Path,
    texts: Mapping[str, str],
    weights: tuple[str, Mapping[str, Tensor]],
    others: Mapping[str, Callable[[Path], None]] | None = None,
) -> Path:
    """Write a folder; whole or not at all.

    Args:
        out: a new or empty folder.
        texts: name of a file -> what it says.
        weights: name of the file of tensors, and the tensors.
        others: name of a further file -> what writes it there.

    Raises:
        ValueError: the folder is not empty or cannot be made, or `safetensors` is missing.
    """
    require_new(out)
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise ValueError("export needs the package safetensors; run `pip install 'chemscale[hub]'`.") from None
    staged = out.with_name(f".{out.name}-{uuid.uuid4().hex[:8]}")
    try:
        staged.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"--out {str(out)!r} cannot be made: {error.strerror}; give another folder.") from None
    try:
        for name, text in texts.items():
            (staged / name).write_text(text, encoding="utf-8")
        name, tensors = weights
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, staged / name, {"format": "pt"})
        (staged / name).chmod((staged / next(iter(texts))).stat().st_mode)  # safetensors lets nobody else read it
        for name, write in (others or {}).items():
            write(staged / name)
        staged.replace(out)  # a rename, also over an empty folder
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return out
