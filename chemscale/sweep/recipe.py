"""Recipes: Python files whose function `recipe` returns a Grid, a Search or a Study.

A second function `resources`, if there is one, says where each run trains: `resources(run) -> Resources`. Where it
returns None, the run gets what the command line says. A value `PLANNED` (`sweep.likeness.Planned`) tells
`chemscale show` what to reckon with while data or GPUs are not at hand.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chemscale.spec import Resources, RunSpec
from chemscale.sweep.grid import Grid, Study
from chemscale.sweep.placement import On
from chemscale.sweep.search import Search

FUNCTION, RESOURCES, PLANNED = "recipe", "resources", "PLANNED"


def load_recipe(path: str, options: Mapping[str, Any] | None = None) -> Study | Search:
    """Call the recipe of a file; a bare Grid becomes a Study named after the file.

    Args:
        path: the file.
        options: arguments of the function.

    Raises:
        ValueError: there is no such file, it has no `recipe`, it has no such argument, or it returns something else.
    """
    file = Path(path)
    if not file.is_file() or file.suffix != ".py":
        what = "Python file (.py)" if file.is_file() else "file"
        raise ValueError(f"recipe={path!r} is not a {what}; give the path of one, e.g. tune_jobs/quickstart.py.")
    function = getattr(_import(file), FUNCTION, None)
    if not callable(function):
        raise ValueError(f"{path} has no function named {FUNCTION}; add `def {FUNCTION}(): return Grid(...)`.")
    known = inspect.signature(function).parameters
    for name in options or {}:
        if name not in known:
            raise ValueError(f"--set {name}=… names no argument of {path}; it has {', '.join(known) or 'none'}.")
    with _told(path):
        made = function(**{name: _fitting(known[name], value) for name, value in (options or {}).items()})
    if isinstance(made, Grid):
        return Study(file.stem, (made,))
    if not isinstance(made, Study | Search):
        raise ValueError(f"{path}: {FUNCTION} returned {type(made).__name__}; return a Grid, a Search or a Study.")
    return made


def _fitting(parameter: inspect.Parameter, value: Any) -> Any:
    """The value; where the argument is a sequence, `--set widths=64` says what `(64,)` does, and `a,b` two words."""
    several = str(parameter.annotation).removeprefix("typing.").partition("[")[0].rpartition(".")[2] == "Sequence"
    if several and isinstance(value, str):
        return tuple(_literal(part.strip()) for part in value.strip("()[]").split(",") if part.strip())
    return (value,) if several and not isinstance(value, Sequence) else value


def recipe_resources(path: str, default: Resources) -> On:
    """Where the runs of a loaded recipe train: its function `resources`, or `default` for all.

    Args:
        path: of a file that `load_recipe` has loaded.
        default: what the command line says; for runs of which `resources` says nothing.

    Raises:
        ValueError: the file's `resources` is no function.
    """
    own: Any = getattr(sys.modules[_module_name(Path(path))], RESOURCES, None)
    if own is None:
        return default
    if not callable(own):
        raise ValueError(f"{path} has {RESOURCES}={own!r}; write def {RESOURCES}(run): return Resources(...).")

    def resources(run: RunSpec) -> Resources:
        found: Any = own(run)
        return default if found is None else found

    return resources


def recipe_plan(path: str) -> Any:
    """`PLANNED` of a loaded recipe, or None."""
    return getattr(sys.modules[_module_name(Path(path))], PLANNED, None)


def _module_name(file: Path) -> str:
    return f"chemscale_recipe_{file.stem}"


def _import(file: Path) -> Any:
    """The file as a module that Ray's workers get by value, since they cannot import it by name."""
    name = _module_name(file)
    spec = importlib.util.spec_from_file_location(name, file.absolute())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _told(str(file)):
        spec.loader.exec_module(module)
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(module)
    return module


@contextmanager
def _told(path: str) -> Iterator[None]:
    """One sentence about what a recipe raises; its own ValueErrors are sentences already."""
    try:
        yield
    except ValueError as error:
        if type(error) is ValueError:
            raise
        raise _mistaken(path, error) from error
    except Exception as error:
        raise _mistaken(path, error) from error


def _mistaken(path: str, error: Exception) -> ValueError:
    said = " ".join(str(error).split()).rstrip(".")
    return ValueError(f"{path} cannot be run: {type(error).__name__} {said}; CHEMSCALE_DEBUG=1 shows where.")


def parse_options(settings: Sequence[str]) -> dict[str, Any]:
    """`name=value` settings as arguments; values are Python literals, or strings where they are none.

    Raises:
        ValueError: a setting has no "=".
    """
    options: dict[str, Any] = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator or not name:
            raise ValueError(f"--set {setting!r} has no {'name' if separator else repr('=')}; write --set name=value.")
        options[name] = _literal(text)
    return options


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
