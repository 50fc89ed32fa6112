"""Cluster files pass Ray's own checker."""

from pathlib import Path

import pytest
import yaml

FILES = sorted((Path(__file__).parent.parent / "cluster").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_launcher_files_are_valid(path):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(path.read_text())
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="Additional properties"):
        validate_config({**prepare_config(config), "typo": 1})
