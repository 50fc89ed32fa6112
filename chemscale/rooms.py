"""Packages that can be called: `chemscale.sweep` is a room of the house and the function that people call.

Python binds an imported submodule to its parent under its own name, over any function of that name; so the module
itself answers to the call.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    _answers: str  # "module:function" that a call goes to

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, function = self._answers.split(":")
        return getattr(importlib.import_module(module), function)(*args, **kwargs)


def answer_calls(name: str, target: str) -> None:
    """Let the imported module `name` be called as the function `target` ("module:function"), imported at the call."""
    module: Any = sys.modules[name]
    module.__class__ = _Room
    module._answers = target
