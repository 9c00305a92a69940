import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pretrainrl.networks.losses import info_nce, masked_cross_entropy, masked_mean


def nce_by_hand(queries, keys, temperature):
    """Mean over i of -log(exp(q_i . k_i / T) / sum_j exp(q_i . k_j / T)), in plain Python."""
    losses = []
    for i, query in enumerate(queries.tolist()):
        scores = [sum(a * b for a, b in zip(query, key, strict=True)) / temperature for key in keys.tolist()]
        highest = max(scores)
        losses.append(math.log(sum(math.exp(s - highest) for s in scores)) + highest - scores[i])
    return losses


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("normalize", [False, True])
def test_info_nce_by_hand(temperature, normalize):
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 7, 5, dtype=torch.float64).unbind()
    loss, _ = info_nce(queries, keys, temperature=temperature, normalize=normalize)
    if normalize:
        queries, keys = (x / x.norm(dim=1, keepdim=True) for x in (queries, keys))
    assert loss.item() == pytest.approx(sum(nce_by_hand(queries, keys, temperature)) / 7, rel=1e-5)


def test_info_nce_closed_forms():
    unit = torch.eye(6)
    loss, accuracy = info_nce(10 * unit, 10 * unit)  # every positive scores 100, every negative 0
    assert loss < 1e-6 and accuracy == 1
    loss, _ = info_nce(torch.zeros(6, 4), torch.randn(6, 4))  # all scores equal
    assert loss.item() == pytest.approx(math.log(6))
    _, accuracy = info_nce(unit, unit.roll(1, dims=0))
    assert accuracy == 0


def test_info_nce_ignores_queries_but_keeps_their_keys_as_negatives():
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 5, 3).requires_grad_().unbind()
    ignore = torch.tensor([False, True, False, False, True])
    loss, _ = info_nce(queries, keys, ignore=ignore)
    by_hand = [value for value, skip in zip(nce_by_hand(queries, keys, 1.0), ignore, strict=True) if not skip]
    assert loss.item() == pytest.approx(sum(by_hand) / 3, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, queries, retain_graph=True)
    assert gradient.abs().sum(1).gt(0).tolist() == (~ignore).tolist()
    (gradient,) = torch.autograd.grad(loss, keys)
    assert gradient.abs().sum(1).gt(0).all()


def test_info_nce_computes_logits_in_float32_under_autocast():
    queries, keys = (30 * torch.randn(2, 8, 64)).unbind()
    exact, _ = info_nce(queries, keys)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = info_nce(queries, keys)
    assert torch.equal(loss, exact)


def test_masked_cross_entropy_equals_torch_on_what_is_kept():
    torch.manual_seed(0)
    logits, labels = torch.randn(9, 4), torch.randint(4, (9,))
    ignore = torch.arange(9) % 3 == 0
    loss, accuracy = masked_cross_entropy(logits, labels, ignore)
    torch.testing.assert_close(loss, F.cross_entropy(logits[~ignore], labels[~ignore]))
    torch.testing.assert_close(accuracy, (logits.argmax(1) == labels)[~ignore].float().mean())
    loss, accuracy = masked_cross_entropy(logits, labels)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))


def test_masked_cross_entropy_of_nothing_is_zero_with_zero_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    loss, accuracy = masked_cross_entropy(logits, torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and accuracy == 0 and not logits.grad.any()


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("normalize", [False, True])
def test_own_negatives_by_hand(temperature, normalize):
    torch.manual_seed(0)
    queries, keys, own = torch.randn(3, 6, 4).unbind()
    ignore = torch.tensor([False, True, False, False, False, True])
    options: dict[str, Any] = {"temperature": temperature, "normalize": normalize, "ignore": ignore}
    loss, accuracy = info_nce(queries, keys, own_negatives=own, **options)
    if normalize:
        queries, keys, own = (x / x.norm(dim=1, keepdim=True) for x in (queries, keys, own))
    losses, hits = [], []
    for i in (0, 2, 3, 4):
        positive, negatives = queries[i] @ keys[i], [queries[i] @ keys[j] for j in range(6) if j != i]
        scores = torch.stack([positive, queries[i] @ own[i], *negatives]) / temperature
        losses.append(-scores.log_softmax(0)[0])
        hits.append(float(scores.argmax() == 0))
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    assert accuracy.item() == pytest.approx(sum(hits) / 4)


def test_hidden_keys_are_as_if_they_were_not_there():
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 6, 4).requires_grad_().unbind()
    ignore = torch.tensor([False, True, False, False, True, True])
    loss, accuracy = info_nce(queries, keys, ignore=ignore, hide_ignored=True)
    expected = info_nce(queries[~ignore], keys[~ignore])
    torch.testing.assert_close((loss, accuracy), expected)
    for gradient in torch.autograd.grad(loss, (queries, keys)):
        assert gradient.isfinite().all() and gradient.any(1).tolist() == (~ignore).tolist()


def test_masked_mean():
    values = torch.tensor([1.0, 2.0, 6.0])
    assert masked_mean(values) == 3
    assert masked_mean(values, torch.tensor([True, False, False])) == 4
    assert masked_mean(values, torch.ones(3, dtype=torch.bool)) == 0
