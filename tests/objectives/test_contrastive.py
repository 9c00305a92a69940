"""Objectives with momentum targets: ATC and R3M put together from their parts by hand, and what holds for all of them."""

from typing import Any

import pytest
import torch

from pretrainrl.objectives import make_objective

NAMES = ["curl", "atc", "r3m", "spr", "spr_idm"]
BY_DOT_PRODUCT: dict[str, Any] = {"augmentation": False, "normalize": False, "temperature": 0.5}


def make(name, **overrides):
    objective: Any = make_objective(name, encoder="nature", num_games=2, preset="nano", **overrides)
    torch.nn.init.normal_(objective.target_neck.mlp[0].weight, std=0.1)  # targets differ from the online network
    return objective


def latents(objective, batch):
    """Queries from o_t, and what gives the target of any later observation."""
    features = objective.backbone(batch.observation().float() / 255)
    queries = objective.head(objective.neck(features, batch.games), batch.games)

    def target(offset):
        with torch.no_grad():
            return objective.target_neck(objective.target_backbone(batch.observation(offset).float() / 255), batch.games)

    return queries, target


@pytest.mark.parametrize("ended", [(), (2, 5)])
def test_atc_by_definition(ended, real_batch):
    atc = make("atc", **BY_DOT_PRODUCT)
    batch = real_batch(atc)
    batch.terminations[list(ended), 1] = True
    loss, metrics = atc.loss(batch)
    queries, target = latents(atc, batch)
    kept = [i for i in range(8) if i not in ended]
    probabilities = (queries @ target(3).T / 0.5).softmax(dim=1)
    torch.testing.assert_close(loss, -probabilities.diag()[kept].log().mean())
    torch.testing.assert_close(metrics["accuracy"], (probabilities.argmax(1) == torch.arange(8)).float()[kept].mean())


@pytest.mark.parametrize("ended", [(), (0, 7)])
def test_r3m_by_definition(ended, real_batch):
    r3m = make("r3m", **BY_DOT_PRODUCT)
    batch = real_batch(r3m)
    batch.terminations[list(ended), 4] = True
    loss, metrics = r3m.loss(batch)
    queries, target = latents(r3m, batch)
    near, far = target(3), target(6)
    losses, hits = [], []
    for i in set(range(8)) - set(ended):
        candidates = torch.stack([near[i], far[i], *(near[j] for j in range(8) if j != i)])
        probabilities = (candidates @ queries[i] / 0.5).softmax(dim=0)
        losses.append(-probabilities[0].log())
        hits.append(float(probabilities.argmax() == 0))
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    assert metrics["accuracy"].item() == pytest.approx(sum(hits) / len(hits))


@pytest.mark.parametrize(("name", "steps"), [("atc", 3), ("r3m", 6)])
def test_a_terminal_anywhere_in_the_window_takes_its_sample_out(name, steps, real_batch):
    objective = make(name, **BY_DOT_PRODUCT)
    batch = real_batch(objective)
    assert batch.terminations.shape == (8, steps)
    batch.terminations[:] = False
    batch.terminations[2, 0] = True
    expected = objective.loss(batch)[0]
    for position in range(steps):
        batch.terminations[2] = torch.arange(steps) == position
        assert torch.equal(objective.loss(batch)[0], expected)
    batch.terminations[2] = False
    assert not torch.equal(objective.loss(batch)[0], expected)


@pytest.mark.parametrize("name", ["atc", "r3m", "spr", "spr_idm"])
def test_nothing_but_ends_is_no_loss(name, real_batch):
    objective = make(name)
    batch = real_batch(objective)
    batch.terminations[:] = True
    loss, _ = objective.loss(batch)
    loss.backward()
    assert loss == 0 and not any(p.grad.any() for p in objective.backbone.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_momentum_follows_progress(name):
    objective = make(name)
    for progress, momentum in ((0.0, 0.99), (0.5, 0.9945), (1.0, 0.999)):
        pairs = ((objective.backbone, objective.target_backbone), (objective.neck, objective.target_neck))
        for online, target in pairs:
            torch.nn.init.ones_(next(online.parameters()))
            torch.nn.init.zeros_(next(target.parameters()))
        objective.after_step(progress)
        for _, target in pairs:
            moved = next(target.parameters())
            torch.testing.assert_close(moved, torch.full_like(moved, 1 - momentum))


@pytest.mark.parametrize("name", ["atc", "r3m"])
def test_observations_are_augmented_separately(name, real_batch):
    objective = make(name)
    batch = real_batch(objective)
    batch.frames[:] = batch.frames[:, 3:4].clone()
    seen = []
    for network in (objective.backbone, objective.target_backbone):
        network.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs[0].split(8)))
    objective.loss(batch)
    assert len(seen) == {"atc": 2, "r3m": 3}[name]
    for i in range(8):
        assert not any(torch.equal(seen[a][i], seen[b][i]) for a in range(len(seen)) for b in range(a))
