"""SPR and SPR with IDM, step by step and sample by sample."""

from typing import Any

import pytest
import torch

from pretrainrl.objectives import make_objective


def make(name, **overrides):
    objective: Any = make_objective(name, encoder="nature", num_games=2, preset="nano", augmentation=False, **overrides)
    torch.nn.init.normal_(objective.target_neck.mlp[0].weight, std=0.1)  # targets differ from the online network
    return objective


def unrolled(objective, batch):
    """(B, 5, D) latents and (B, 4, D) targets, from the definitions."""
    rnn, embedding = objective.transition.rnn, objective.transition.actions.weight
    latent = objective.neck(objective.backbone(batch.observation().float() / 255), batch.games)
    latents, targets = [latent], []
    for step in range(4):
        embedded = torch.stack([embedding[18 * g + a] for g, a in zip(batch.games, batch.actions[:, step], strict=True)])
        driven = embedded @ rnn.weight_ih_l0.T + rnn.bias_ih_l0 + latents[-1] @ rnn.weight_hh_l0.T + rnn.bias_hh_l0
        latents.append(driven.tanh())
        observation = batch.observation(step + 1).float() / 255
        targets.append(objective.target_neck(objective.target_backbone(observation), batch.games))
    return torch.stack(latents, dim=1), torch.stack(targets, dim=1)


def kept_pairs(batch):
    """(sample, step) of all targets that are not past an end, be it a termination or the last frame."""
    pairs = [(i, step) for i in range(8) for step in range(4)]
    return [(i, step) for i, step in pairs if batch.valid[i, 4 + step] and not any(batch.terminations[i, : step + 1].tolist())]


def end(batch, ended):
    for sample, step in ended.items():
        batch.terminations[sample, step] = True


@pytest.mark.parametrize("ended", [{}, {0: 0, 1: 1, 2: 2, 3: 3}])
def test_spr_by_definition(ended, real_batch):
    spr = make("spr", normalize=False, temperature=0.5)
    batch = real_batch(spr)
    end(batch, ended)
    loss, metrics = spr.loss(batch)
    latents, targets = unrolled(spr, batch)
    predictions = spr.head(latents[:, 1:], batch.games)
    pairs = kept_pairs(batch)
    queries, keys = (torch.stack([x[pair] for pair in pairs]) for x in (predictions, targets))
    probabilities = (queries @ keys.T / 0.5).softmax(dim=1)
    torch.testing.assert_close(loss, -probabilities.diag().log().mean())
    hits = probabilities.argmax(1) == torch.arange(len(pairs))
    torch.testing.assert_close(metrics["accuracy"], hits.float().mean())


@pytest.mark.parametrize("ended", [{}, {0: 0, 1: 1, 2: 2, 3: 3}])
def test_spr_idm_by_definition(ended, real_batch):
    objective = make("spr_idm", prediction_weight=3.0, action_weight=0.5)
    batch = real_batch(objective)
    end(batch, ended)
    loss, metrics = objective.loss(batch)
    latents, targets = unrolled(objective, batch)
    predictions = objective.head(latents[:, 1:], batch.games)
    cosines, entropies = [], []
    for i, step in kept_pairs(batch):
        prediction, target, game = predictions[i, step], targets[i, step], batch.games[i]
        cosines.append(prediction @ target / prediction.norm() / target.norm())
        first, second = objective.inverse.first, objective.inverse.second
        hidden = torch.cat([latents[i, step], target]) @ first.weight[game].view(256, 128) + first.bias[game]
        logits = hidden.relu() @ second.weight[game].view(128, 18) + second.bias[game]
        entropies.append(-logits.log_softmax(0)[batch.actions[i, step]])
    cosine, entropy = torch.stack(cosines).mean(), torch.stack(entropies).mean()
    torch.testing.assert_close(loss, 0.5 * entropy - 3 * cosine, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(metrics["cosine"], cosine)
    torch.testing.assert_close(metrics["action_loss"], entropy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["spr", "spr_idm"])
def test_what_follows_an_end_does_not_matter(name, real_batch):
    objective = make(name)
    batch = real_batch(objective)
    batch.terminations[:, 1] = True
    loss, _ = objective.loss(batch)
    batch.frames[:, 4 + 1 :] = torch.randint_like(batch.frames[:, 4 + 1 :], 256)  # o_t+2 and later
    batch.actions[:, 1:] = torch.randint_like(batch.actions[:, 1:], 18)
    assert torch.equal(objective.loss(batch)[0], loss)
    batch.frames[:, 4] = 255 - batch.frames[:, 4]
    assert not torch.equal(objective.loss(batch)[0], loss)


def test_a_window_is_augmented_alike(real_batch):
    spr = make_objective("spr", encoder="nature", num_games=2, preset="nano")
    batch = real_batch(spr)
    batch.frames[:] = batch.frames[:, 3:4].clone()
    seen = []
    for network in (spr.backbone, spr.target_backbone):
        network.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs[0].split(8)))
    spr.loss(batch)
    assert len(seen) == 5 and all(torch.equal(view, seen[0]) for view in seen)
    assert not torch.equal(seen[0], batch.observation().float() / 255)
