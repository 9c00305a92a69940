import pytest
import torch
from torch import nn

from pretrainrl.networks.optimization import linear_momentum, momentum_copy, update_momentum


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_copy_is_equal_separate_and_without_gradient():
    online = network()
    target = momentum_copy(online)
    for ours, theirs in zip(target.parameters(), online.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr() and not ours.requires_grad
        assert theirs.requires_grad
    assert target.training and not momentum_copy(online.eval()).training


def test_update_equals_its_formula_and_its_end_points():
    online, target = network(), momentum_copy(network())
    online(torch.randn(5, 3))  # moves the running statistics
    before = [p.clone() for p in target.parameters()]
    update_momentum(target, online, 1.0)
    assert all(torch.equal(p, b) for p, b in zip(target.parameters(), before, strict=True))
    assert all(torch.equal(p, q) for p, q in zip(target.buffers(), online.buffers(), strict=True))
    update_momentum(target, online, 0.9)
    for p, b, o in zip(target.parameters(), before, online.parameters(), strict=True):
        torch.testing.assert_close(p, 0.9 * b + 0.1 * o.detach())
    update_momentum(target, online, 0.0)
    assert all(torch.equal(p, o) for p, o in zip(target.parameters(), online.parameters(), strict=True))


def test_update_leaves_the_online_network_and_its_graph_alone():
    online = network()
    target = momentum_copy(online)
    loss = online(torch.randn(5, 3)).sum()
    update_momentum(target, online, 0.5)
    loss.backward()
    assert all(p.grad is not None for p in online.parameters())
    assert all(p.grad is None for p in target.parameters())


def test_schedule_is_linear_between_its_end_points():
    assert linear_momentum(0.0) == 0.99
    assert linear_momentum(0.5) == pytest.approx(0.9945)
    assert linear_momentum(1.0) == pytest.approx(0.999)
