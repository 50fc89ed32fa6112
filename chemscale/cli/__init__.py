"""The command line: one function per verb. Exit status 0 done, 1 the work failed, 2 the caller's mistake."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

DEBUG = "CHEMSCALE_DEBUG"  # set it to see the traceback behind a sentence
_UNUSABLE = (  # what a path that somebody gave may be
    errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EPERM, errno.EROFS,
)  # fmt: skip
_FULL = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    from chemscale.cli.arguments import parser

    try:
        given = parser().parse_args(arguments)
        return given.verb(given) or 0
    except KeyboardInterrupt:
        print("chemscale: stopped; the same command goes on where this one was.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        text, status = _told(error)
        print(f"chemscale: {text}", file=sys.stderr)
        return status


def _told(error: Exception) -> tuple[str, int]:
    """The sentence about an error, and the exit status."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno in _FULL:
        where = f" at {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}; make room and give the same command again.", 1
    if isinstance(error, OSError) and error.errno in _UNUSABLE and error.filename:
        return f"{_short(str(error.filename))} cannot be used: {error.strerror}; give another path.", 2
    if isinstance(error, ValueError):
        return text, 2
    own = type(error).__module__.startswith("chemscale")  # our own sentences need no class name
    return text if own else f"{type(error).__name__}: {text}", 1


def _short(path: str, most: int = 200) -> str:
    return repr(path if len(path) <= most else f"{path[:most]}…")
