"""Opening data on whatever node a run lands on."""

import pytest

from chemscale import data
from chemscale.models import ChemGPT
from chemscale.spec import Data
from chemscale.train.session import _opened, opened


def test_a_node_without_the_built_data_builds_the_same_ones(molecules, tmp_path, monkeypatch):
    here = data.build(molecules, progress=False)
    wanted = Data(molecules, size=100, content=here.content)
    view = tuple(sorted(ChemGPT.sized(width=8).view.items()))
    monkeypatch.setenv("CHEMSCALE_HOME", str(tmp_path / "another node"))
    with pytest.raises(ValueError, match="is not built here"):
        data.open_data(wanted, dict(view))
    _opened.cache_clear()
    try:
        assert opened(wanted, view).manifest.content == here.content
        other = Data(molecules, size=100, content="0" * 64)
        with pytest.raises(ValueError, match="is not what"):
            opened(other, view)
    finally:
        _opened.cache_clear()
