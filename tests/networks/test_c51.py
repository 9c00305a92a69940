"""Distributions over atoms against their definitions, one atom at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrainrl.errors import InputError
from pretrainrl.networks.c51 import distribution_loss, expected_value, make_support, project

finite = st.floats(-25, 25, width=32)


def project_by_definition(probabilities, returns, discounts, support):
    """Equation 7 of the paper: every atom takes from every moved atom by its distance."""
    low, high = support[0].item(), support[-1].item()
    gap = (high - low) / (len(support) - 1)
    projected = torch.zeros_like(probabilities)
    for b in range(len(returns)):
        for i, atom in enumerate(support.tolist()):
            for j, other in enumerate(support.tolist()):
                moved = min(max(returns[b].item() + discounts[b].item() * other, low), high)
                projected[b, i] += probabilities[b, j] * min(max(1 - abs(moved - atom) / gap, 0), 1)
    return projected


@settings(max_examples=60, deadline=None)
@given(
    atoms=st.integers(2, 12),
    rows=st.lists(st.tuples(finite, st.sampled_from([0.0, 0.5, 0.99**3, 1.0])), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_projection_by_definition(atoms, rows, seed):
    support = make_support(atoms).double()
    probabilities = torch.randn(len(rows), atoms, generator=torch.Generator().manual_seed(seed)).double().softmax(1)
    returns, discounts = (torch.tensor(column).double() for column in zip(*rows, strict=True))
    projected = project(probabilities, returns, discounts, support)
    torch.testing.assert_close(projected, project_by_definition(probabilities, returns, discounts, support), atol=1e-5, rtol=0)
    torch.testing.assert_close(projected.sum(1), torch.ones(len(rows)).double())


def test_projection_keeps_the_mean_inside_the_range_and_atoms_in_place():
    support = make_support()
    probabilities = torch.rand(5, 51).softmax(1)
    unmoved = project(probabilities, torch.zeros(5), torch.ones(5), support)
    torch.testing.assert_close(unmoved, probabilities)
    returns = torch.linspace(-3, 3, 5)
    moved = project(probabilities, returns, torch.full((5,), 0.5), support)  # to at most 3 + 5
    torch.testing.assert_close(moved @ support, returns + 0.5 * (probabilities @ support))


@settings(max_examples=400, deadline=None)
@given(
    atoms=st.integers(2, 300),
    low=st.one_of(st.integers(-100, 100), st.floats(-1e4, 1e4, width=32)),
    width=st.one_of(st.integers(1, 200), st.floats(2**-7, 1e4, width=32)),
    seed=st.integers(0, 99),
)
def test_any_support_keeps_mass_and_mean(atoms, low, width, seed):
    """In float32 too: no mass is negative, and the mean is that of the moved atoms, each within the bounds."""
    try:
        support = make_support(atoms, low, low + width)
    except InputError:
        return
    low, high = support[0].item(), support[-1].item()
    generator = torch.Generator().manual_seed(seed)
    inside = low + (high - low) * torch.rand(16, generator=generator)
    returns = torch.cat([torch.tensor([low, high, -1e30, 1e30, high + 1, low - 1]), inside])
    discounts = torch.cat([torch.zeros(6), torch.rand(16, generator=generator)])
    probabilities = (3 * torch.randn(22, atoms, generator=generator)).softmax(1)
    projected = project(probabilities, returns, discounts, support)
    assert (projected >= 0).all()
    torch.testing.assert_close(projected.sum(1), torch.ones(22))
    moved = (returns.double()[:, None] + discounts.double()[:, None] * support.double()).clamp(low, high)
    expected = (probabilities.double() * moved).sum(1)
    resolution = 1e-5 * (high - low) + 1e-6 * max(abs(low), abs(high))
    torch.testing.assert_close((projected.double() * support.double()).sum(1), expected, atol=resolution, rtol=0)
    assert (distribution_loss(torch.randn(22, atoms, generator=generator), projected) >= 0).all()


def test_no_integer_range_gives_negative_mass():
    """With 51 atoms in float32, the upper bound of 383 of these ranges lies after the last atom."""
    probabilities = torch.full((1, 51), 1 / 51)
    for low in range(-40, 10):
        for width in range(1, 41):
            support = make_support(51, low, low + width)
            projected = project(probabilities, torch.tensor([1e6]), torch.zeros(1), support)
            assert projected[0, -1] == pytest.approx(1) and (projected[0, :-1] == 0).all()


def test_past_an_end_only_the_return_counts():
    support = make_support()
    projected = project(torch.rand(3, 51).softmax(1), torch.tensor([1.0, 0.4, -99.0]), torch.zeros(3), support)
    one, between, lowest = projected
    torch.testing.assert_close(one[27:29], torch.tensor([0.5, 0.5]))  # atoms 0.8 and 1.2
    torch.testing.assert_close(between[26], torch.tensor(1.0))
    torch.testing.assert_close(lowest[0], torch.tensor(1.0))


def test_loss_is_finite_where_the_softmax_underflows():
    logits = torch.tensor([[0.0, 300.0]], requires_grad=True)
    loss = distribution_loss(logits, torch.tensor([[0.25, 0.75]]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(75) and logits.grad.isfinite().all()
    assert logits.softmax(1).log().isinf().any()


def test_loss_and_mean_by_hand():
    support = make_support(3, -2, 2)
    logits = torch.tensor([0.2, 0.3, 0.5]).log()
    assert expected_value(logits, support).item() == pytest.approx(0.6)
    target = torch.tensor([[0.0, 0.5, 0.5]])
    assert distribution_loss(logits[None], target).item() == pytest.approx(-0.5 * math.log(0.3) - 0.5 * math.log(0.5))


@pytest.mark.parametrize("arguments", [(1,), (51, 1.0, 1.0), (51, 0.0, math.nan)])
def test_bad_supports(arguments):
    with pytest.raises(InputError, match="a support needs"):
        make_support(*arguments)


@pytest.mark.parametrize("bounds", [(1e8, 1e8 + 1), (0, 1e-44), (-3e38, 3e38), (-math.inf, 0), (0, 1e300)])
def test_supports_that_float32_cannot_hold(bounds):
    with pytest.raises(InputError, match="cannot tell the atoms"):
        make_support(51, *bounds)
