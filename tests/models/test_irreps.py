"""Harmonics, products, linear maps and gates against e3nn, with the same weights in float64."""

import itertools

import pytest
import torch
from e3nn import o3
from e3nn.nn import Gate as PeerGate
from torch.testing import assert_close

from chemscale.models.irreps import (
    SCALAR,
    Couplings,
    Harmonics,
    Irrep,
    Linear,
    couple,
    harmonic,
    irreps_up_to,
    paths,
    product,
)
from chemscale.models.nequip import Gate, SelfConnection, block_shapes

ROWS, CHANNELS = 7, 5
TIGHT = {"rtol": 0, "atol": 1e-13}  # sums of tens of terms of order one in float64


def blocks(irreps, channels=CHANNELS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(ROWS, ir.dim, channels, generator=generator, dtype=torch.float64) for ir in irreps]


def flat(features):
    """Ours, channels last, in e3nn's order: channels before components."""
    return torch.cat([x.transpose(1, 2).flatten(1) for x in features], 1)


def theirs(irreps, channels=CHANNELS):
    return o3.Irreps([(channels, tuple(ir)) for ir in irreps])


def unit(seed=1):
    vectors = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return vectors / vectors.norm(dim=1, keepdim=True)


def test_harmonics_are_those_of_e3nn():
    found = Harmonics(6).double()(unit())
    for degree, y in enumerate(found):
        assert_close(y, o3.spherical_harmonics(degree, unit(), False, "component"), **TIGHT)


def test_constants_are_exact_after_a_change_of_type():
    """Made in float32 and moved to float64, they are those of float64."""
    moved = Harmonics(3).float().double()
    assert_close(moved.step_3, Harmonics(3).double().step_3, rtol=0, atol=0)


@pytest.fixture
def in_float64():
    """e3nn rounds its constants to the type in which a product is made."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.usefixtures("in_float64")
def test_products_are_those_of_e3nn(parity):
    """Every path up to degree 3, uvu: with the same weights the same numbers, path by path."""
    irreps, sphere = irreps_up_to(3, parity=parity), tuple(map(harmonic, range(4)))
    steps = paths(irreps, sphere, irreps)
    x, weights = blocks(irreps), torch.randn(ROWS, len(steps), CHANNELS, dtype=torch.float64)
    y = Harmonics(3).double()(unit())
    matrices = Couplings(steps).double()(y)
    ours = [
        couple(matrices[path.degrees], x[irreps.index(path.left)], weights[:, None, k]) for k, path in enumerate(steps)
    ]
    peer = o3.TensorProduct(
        theirs(irreps),
        o3.Irreps.spherical_harmonics(3),
        theirs([path.out for path in steps]),
        [(irreps.index(p.left), p.right.degree, k, "uvu", True) for k, p in enumerate(steps)],
        shared_weights=False,
        internal_weights=False,
    ).double()
    assert_close(flat(ours), peer(flat(x), torch.cat(y, 1), weights.flatten(1)), **TIGHT)


@pytest.mark.parametrize("left", irreps_up_to(2, parity=True))
def test_irreps_multiply_as_in_e3nn(left):
    for right in irreps_up_to(3, parity=True):
        expected = o3.Irrep(*left) * o3.Irrep(*right)
        assert list(product(left, right)) == [Irrep(ir.l, ir.p) for ir in expected]


def test_the_other_end_of_a_pair_changes_the_sign_of_odd_degrees():
    for degree, (there, back) in enumerate(zip(*(Harmonics(4).double()(s * unit()) for s in (1, -1)), strict=True)):
        assert_close(back, (-1) ** degree * there, **TIGHT)


def test_linear_maps_are_those_of_e3nn():
    irreps = irreps_up_to(2, parity=True)
    ours, x = Linear([CHANNELS] * len(irreps), [3] * len(irreps)).double(), blocks(irreps)
    peer = o3.Linear(theirs(irreps), theirs(irreps, 3)).double()
    with torch.no_grad():
        for weight, view in zip(ours.weights, peer.weight_views(), strict=True):
            view.copy_(weight)
    assert_close(flat(ours(x)), peer(flat(x)), **TIGHT)


@pytest.mark.parametrize("species", [4, 20], ids=["in columns", "gathered"])
def test_self_connections_are_e3nns_product_with_the_element(species):
    irreps, types = irreps_up_to(1, parity=True), 6
    ours, x = SelfConnection(CHANNELS, types, [3] * len(irreps)).double(), blocks(irreps)
    peer = o3.FullyConnectedTensorProduct(theirs(irreps), o3.Irreps([(types, (0, 1))]), theirs(irreps, 3)).double()
    with torch.no_grad():
        for weight, view in zip(ours.weights, peer.weight_views(), strict=True):
            view.copy_(weight.view(types, CHANNELS, 3).transpose(0, 1))
    table, elements = torch.randn(species, types, dtype=torch.float64), torch.arange(ROWS) % species
    assert_close(flat(ours(x, elements, table)), peer(flat(x), table[elements]), **TIGHT)


def test_gates_are_those_of_e3nn():
    """To float32's rounding of the moments' reciprocal in neither: both hold the same number."""
    outputs = irreps_up_to(2, parity=True)
    ours = Gate(outputs, CHANNELS)
    gated = [ir for ir in outputs if ir.degree]
    x = [
        torch.randn(ROWS, ir.dim, n, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        for k, (ir, n) in enumerate(zip(outputs, ours.inputs, strict=True))
    ]
    silu, tanh = torch.nn.functional.silu, torch.tanh
    scalars = [SCALAR, Irrep(0, -1)]
    peer = PeerGate(
        theirs(scalars), [silu, tanh], o3.Irreps([(CHANNELS, (0, 1))] * len(gated)), [silu] * len(gated), theirs(gated)
    )
    head, *gates = x[0].split(CHANNELS, -1)
    even = torch.cat([flat([head]), *(flat([g]) for g in gates)], 1)
    given = {ir: flat([block]) for ir, block in zip(outputs, x, strict=True)} | {SCALAR: even}
    ordered = [given[Irrep(ir.l, ir.p)] for ir in dict.fromkeys(ir for _, ir in peer.irreps_in)]
    assert_close(flat(ours(x)), peer(torch.cat(ordered, 1)), **TIGHT)


def test_what_no_energy_reads_is_left_out():
    """With both parities, three blocks never use the irreps that harmonics lack; four use those of degree 1 and up."""
    for degree in range(4):
        assert block_shapes(degree, 3, parity=True) == block_shapes(degree, 3, parity=False)
    middle = block_shapes(2, 4, parity=True)[1].outputs
    assert Irrep(1, 1) in middle
    assert all(ir in middle for ir in irreps_up_to(2, parity=False))
    for before, after in itertools.pairwise(block_shapes(2, 5, parity=True)):
        assert before.outputs == after.inputs
