"""DT against a token sequence written out one token at a time."""

import pytest
import torch
import torch.nn.functional as F

from pretrainrl.errors import InputError
from pretrainrl.objectives import make_objective


def make(**overrides):
    return make_objective("dt", encoder="nature", num_games=2, preset="nano", **{"augmentation": False, **overrides})


def slow_logits(dt, observations, actions, returns, game):
    """Logits after the last of a list of observations (4, 84, 84), by running all tokens so far through the network."""
    tokens = []
    games = torch.tensor([game])
    for i, observation in enumerate(observations):
        tokens.append(dt.embed_return.weight[:, 0] * 0.01 * returns[i] + dt.embed_return.bias)
        tokens.append(dt.neck(dt.backbone(observation[None].float() / 255), games)[0])
        if i < len(observations) - 1:
            tokens.append(dt.embed_action.weight[actions[i]])
    sequence = torch.stack([token + dt.positions[k] for k, token in enumerate(tokens)])
    encoded = dt.transformer(sequence[None], causal=True)[0, -1]  # the newest state is last: nothing to mask
    return dt.head(encoded[None], games)[0]


def test_loss_by_definition(real_batch):
    dt = make()
    batch = real_batch(dt)
    batch.returns = torch.randn_like(batch.returns) * 30
    loss, metrics = dt.loss(batch)
    losses, hits = [], []
    for i in range(len(batch.games)):
        observations = [batch.observation(k)[i] for k in range(8)]
        for k in range(int(batch.taken[i].sum())):
            logits = slow_logits(dt, observations[: k + 1], batch.actions[i], batch.returns[i], batch.games[i].item())
            losses.append(F.cross_entropy(logits, batch.actions[i, k]))
            hits.append((logits.argmax() == batch.actions[i, k]).float())
    torch.testing.assert_close(loss, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(metrics["accuracy"], torch.stack(hits).mean())


def logits_of(dt, batch):
    states = torch.stack([dt.states(batch.observation(k), batch.games) for k in range(8)], dim=1)
    return dt.sequence_scores(states, batch.actions, batch.returns, batch.games), states


@pytest.mark.parametrize("step", range(8))
def test_nothing_later_changes_anything_earlier(step, real_batch):
    dt = make()
    batch = real_batch(dt)
    with torch.no_grad():
        before, states = logits_of(dt, batch)
        changed = {
            "return": (states, batch.actions, batch.returns.index_add(1, torch.tensor([step]), torch.full((8, 1), 50.0))),
            "state": (
                states.index_add(1, torch.tensor([step]), torch.randn(8, 1, states.shape[2])),
                batch.actions,
                batch.returns,
            ),
            "action": (states, batch.actions.index_fill(1, torch.tensor([step]), 17), batch.returns),
        }
        for name, (other_states, actions, returns) in changed.items():
            after = dt.sequence_scores(other_states, actions, returns, batch.games)
            same = step + (name == "action")  # a_t is read after it was predicted
            torch.testing.assert_close(after[:, :same], before[:, :same], rtol=1e-5, atol=1e-5)
            if same < 8:
                assert (after[:, same:] - before[:, same:]).abs().amax((0, 2)).min() > 1e-4, name


def test_shorter_histories_are_prefixes(real_batch):
    dt = make()
    batch = real_batch(dt)
    with torch.no_grad():
        whole, states = logits_of(dt, batch)
        for length in (1, 3):
            part = dt.sequence_scores(states[:, :length], batch.actions[:, :length], batch.returns[:, :length], batch.games)
            torch.testing.assert_close(part, whole[:, :length])


def test_one_augmentation_for_all_steps_of_a_window(real_batch):
    dt = make(augmentation=True)
    batch = real_batch(dt)
    seen = []
    dt.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    dt.loss(batch)
    stacks = seen[0].unflatten(0, (8, 8))
    assert torch.equal(stacks[:, 1:, :-1], stacks[:, :-1, 1:])
    assert not torch.equal(stacks[:, 0], batch.observation().float() / 255)


def test_returns_are_read(real_batch):
    dt = make()
    batch = real_batch(dt)
    assert dt.window.returns is not None and batch.returns.shape == (8, 8)
    first, _ = dt.loss(batch)
    batch.returns = batch.returns + 100
    assert dt.loss(batch)[0] != first


@pytest.mark.parametrize(("widths", "message"), [((8, 7), "must be even"), ((8, 6), "not a multiple of its 4 heads")])
def test_bad_widths(widths, message):
    with pytest.raises(InputError, match=message):
        make(neck_widths=widths)
