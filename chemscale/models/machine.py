"""C beside the package, compiled for this processor and one shape where a C compiler is found.

It takes a second, once for each processor, compiler and shape: what was compiled stays in `home()`, under a name that
says all three, since processes of several machines may share that folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from chemscale.home import home

# Not -ffast-math: linking with it sets the whole process to flush denormal numbers. These let sums be reordered.
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math",
         "-fno-signed-zeros", "-fassociative-math", "-ffinite-math-only", "-fPIC", "-shared")  # fmt: skip
HEADERS = Path(__file__).parent
SPLIT = 2**16  # numbers from which on more than one thread is worth its start, about 20 us
LONGEST_COMPILATION = 60.0  # seconds


def compiled(source: Path, **shape: int) -> Any:
    """The functions of a C file, as `ctypes` has them, with these names defined; None where it cannot be compiled."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    defined = [f"-D{name}={value}" for name, value in shape.items()]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.so"
        try:
            kept = home() / "kernels" / f"{source.stem}-{_told_apart(compiler, source, defined)}.so"
            with contextlib.suppress(OSError):  # it is not there, or damaged
                return ctypes.CDLL(str(kept))
            _run(compiler, *FLAGS, *defined, f"-I{HEADERS}", str(source), "-o", str(made), "-lm")
            return ctypes.CDLL(str(_keep(made, kept)))  # stays mapped where the file is gone
        except (OSError, subprocess.SubprocessError):
            return None


def _told_apart(compiler: str, source: Path, defined: Sequence[str]) -> str:
    """A name for machine code: of the C, the flags, and what the compiler says of itself and of this processor."""
    named = hashlib.sha256(_run(compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull))
    for file in (source, *sorted(HEADERS.glob("*.h"))):
        named.update(file.read_bytes())
    named.update(" ".join((*FLAGS, *defined)).encode())
    return named.hexdigest()[:16]


def _run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=LONGEST_COMPILATION).stdout


def _keep(made: Path, kept: Path) -> Path:
    """Whole or not at all; where nothing can be kept, this process alone has it."""
    arriving = kept.with_name(f".{kept.name}-{secrets.token_hex(4)}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, arriving)
        arriving.replace(kept)
    except OSError:
        with contextlib.suppress(OSError):
            arriving.unlink()
        return made
    return kept


def shared(call: Callable[..., None], lines: int, numbers: int, *arguments: Any) -> None:
    """Call for all lines, or for a part of them from each of torch's threads where there are many numbers in them."""
    threads = min(torch.get_num_threads(), lines, -(-numbers // SPLIT))
    if threads <= 1:
        call(0, lines, *arguments)
        return
    ends = [lines * part // threads for part in range(threads + 1)]
    list(_pool(threads).map(lambda part: call(*part, *arguments), pairwise(ends)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "kernels")
