from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what a test builds."""
    monkeypatch.setenv("CHEMSCALE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where package data are built once for all tests."""
    return tmp_path_factory.mktemp("shared_home")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes frames of ASE to a file of extended XYZ and says where it lies."""

    def to_file(frames: list[Any], name: str = "a.extxyz") -> str:
        import ase.io

        ase.io.write(tmp_path / name, frames, format="extxyz")
        return str(tmp_path / name)

    return to_file


@pytest.fixture
def moses(shared_home: Path, monkeypatch: pytest.MonkeyPatch):
    from chemscale.data import build, open_data
    from chemscale.spec import Data

    monkeypatch.setenv("CHEMSCALE_HOME", str(shared_home))
    build("moses", progress=False)
    return open_data(Data("moses"), {"context": 64})
