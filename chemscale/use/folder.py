"""A folder that stands alone, as exports are: texts, weights and more, whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import Tensor

from chemscale.data.staging import OccupiedError, whole_folder

ROOM = 2**16  # bytes; a disk with less is full


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
        ValueError: the folder is not empty, cannot be made, or was filled meanwhile; or `safetensors` is missing.
    """
    require_new(out)
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise ValueError("export needs the package safetensors; run `pip install 'chemscale[hub]'`.") from None
    try:
        with ExitStack() as stack:
            try:
                room = stack.enter_context(whole_folder(out))
            except OSError as error:
                raise ValueError(f"--out {str(out)!r} cannot be made: {error.strerror}; give another folder.") from None
            with _full_disk_told(room, out):
                for name, text in texts.items():
                    (room / name).write_text(text, encoding="utf-8")
                name, tensors = weights
                save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, room / name, {"format": "pt"})
                (room / name).chmod((room / next(iter(texts))).stat().st_mode)  # safetensors lets nobody else read it
                for name, write in (others or {}).items():
                    write(room / name)
    except OccupiedError:
        require_new(out)
        raise
    return out


@contextmanager
def _full_disk_told(room: Path, out: Path) -> Iterator[None]:
    """A full disk as the OSError that it is: safetensors has its number in a text, and torch does not say it at all."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(out)) from error
    except Exception as error:
        said = re.search(r"os error (\d+)", str(error))
        full = errno.ENOSPC if shutil.disk_usage(room).free < ROOM else None
        number = int(said[1]) if said else full
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(out)) from error
