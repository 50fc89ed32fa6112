"""The short form of the chaos test: every fault once over a small study."""

import pytest

from tests.chaos.chaos import cells, chaos
from tests.chaos.faults import FAULTS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]


def test_a_study_survives_every_kind_of_fault(tmp_path, molecules, structures, capsys):
    options = {"molecules": molecules, "structures": structures, "updates": 40}
    assert cells(options) >= 26
    said = []
    log = chaos(tmp_path, options, faults=len(FAULTS), seed=3, kinds=list(FAULTS), say=said.append)
    assert sum(log.faults.values()) == len(FAULTS), "\n".join(said)
