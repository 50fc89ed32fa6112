"""C beside the package, compiled for this processor and one shape where a C compiler is found.

It takes 0.3 s, once a process and shape, in a folder that is gone afterwards: machine code for one processor is nothing
to keep on a disk that others share.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

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
    defined = (f"-D{name}={value}" for name, value in shape.items())
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.so"
        try:
            command = [compiler, *FLAGS, *defined, f"-I{HEADERS}", str(source), "-o", str(made), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=LONGEST_COMPILATION)
            return ctypes.CDLL(str(made))  # stays mapped when the file is gone
        except (OSError, subprocess.SubprocessError):
            return None


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
