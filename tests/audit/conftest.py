"""Fewer refits than people get: these tests ask for verdicts, not for coverage."""

import pytest

from chemscale.audit import comparing, subject


@pytest.fixture(autouse=True, scope="package")
def few_refits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "BOOTSTRAP", 100)
        patch.setattr(comparing, "BOOTSTRAP", 99)
        yield
