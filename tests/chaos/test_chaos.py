"""The short form of the chaos test: every fault once over a small study."""

import pytest

from tests.chaos.chaos import cells, chaos
from tests.chaos.faults import FAULTS
from tests.chaos.names import SHARED

pytestmark = pytest.mark.slow


def test_a_study_survives_every_kind_of_fault(tmp_path, molecules, structures, capsys):
    few = {"updates": 80, "widths": (16, SHARED[1]), "sizes": (64,), "seeds": (0,)}
    options = {"molecules": molecules, "structures": structures, **few}
    assert cells(options) == 6
    assert cells({"molecules": molecules, "structures": structures}) == 26  # of the long form
    said = []
    log = chaos(tmp_path, options, faults=len(FAULTS), seed=3, kinds=list(FAULTS), say=said.append)
    assert sum(log.faults.values()) == len(FAULTS), "\n".join(said)
