"""One planted store and one report of it, shared by the tests of this folder."""

import pytest

from chemscale.report.collect import collect
from tests.report.planted import full_store

BAD_REASON = "<script>alert('x')</script> is not finite & so on"


@pytest.fixture(scope="package")
def store(tmp_path_factory):
    return full_store(tmp_path_factory.mktemp("planted") / "store", reason=BAD_REASON)


@pytest.fixture(scope="package")
def found(store):
    return collect(store)
