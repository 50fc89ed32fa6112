from pathlib import Path

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
def moses(shared_home: Path, monkeypatch: pytest.MonkeyPatch):
    from chemscale.data import build, open_data
    from chemscale.spec import Data

    monkeypatch.setenv("CHEMSCALE_HOME", str(shared_home))
    build("moses", progress=False)
    return open_data(Data("moses"), {"context": 64})
