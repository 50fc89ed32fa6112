"""What goes along with a job: the recipe alone, or a folder that holds it."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

EXCLUDED = (".git", ".venv", "__pycache__")


@contextlib.contextmanager
def luggage(recipe: str, working_dir: str | Path | None) -> Iterator[tuple[Path, str]]:
    """The folder to send, and the recipe's path in it; a recipe that goes alone gets a folder for a while.

    Raises:
        ValueError: the folder does not hold the recipe, or is larger than Ray sends.
    """
    file = Path(recipe).resolve()
    if working_dir is None:
        with tempfile.TemporaryDirectory(prefix="chemscale-job-") as folder:
            shutil.copy(file, folder)
            yield Path(folder), file.name
        return
    folder = Path(working_dir).resolve()
    if not folder.is_dir():
        raise ValueError(f"working_dir={str(working_dir)!r} is not a folder; give the one that holds {recipe}.")
    if not file.is_relative_to(folder):
        raise ValueError(
            f"recipe={recipe!r} lies outside working_dir={str(working_dir)!r}, which is all that the cluster gets; "
            "give a working_dir that holds the recipe."
        )
    require_small(folder)
    yield folder, str(file.relative_to(folder))


def require_small(folder: Path) -> None:
    """Refuse a folder that Ray would pack for minutes and then not send.

    Raises:
        ValueError: with the limit and the way out.
    """
    from ray._private.runtime_env import packaging

    limit, total = packaging.GCS_STORAGE_MAX_SIZE, 0

    def add(path: Path) -> None:
        nonlocal total
        total += path.lstat().st_size if path.is_file() else 0
        if total > limit:
            raise ValueError(
                f"working_dir={str(folder)!r} holds more than the {limit >> 20} MiB that Ray sends along; give a "
                "smaller folder, or name what the job does not need in a .gitignore there."
            )

    silent = logging.Logger("silent", logging.CRITICAL + 1)  # Ray logs the path at which `add` raises
    without = [packaging._get_excludes(folder, [*EXCLUDED])]
    packaging._dir_travel(folder, without, add, include_gitignore=True, logger=silent)
