"""CQL's losses against plain loops over samples, atoms and steps."""

import math

import pytest
import torch

from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.errors import InputError
from pretrainrl.objectives import make_objective

NAMES = ("cql_m", "cql_d")


def make(name, **overrides):
    objective = make_objective(name, encoder="nature", num_games=2, preset="nano", augmentation=False, **overrides)
    for parameter in objective.target_head.parameters():  # targets differ from the online network
        torch.nn.init.normal_(parameter)
    return objective


def outputs(objective, observation, games, *, target=False):
    prefix = "target_" if target else ""
    backbone, neck, head = (getattr(objective, prefix + part) for part in ("backbone", "neck", "head"))
    return head(neck(backbone(observation.float() / 255), games), games).view(len(games), 18, -1)


def slow_loss(objective, batch):
    online = outputs(objective, batch.observation(0), batch.games)
    later = outputs(objective, batch.observation(3), batch.games, target=True)
    total = 0.0
    for i in range(len(batch.games)):
        action = batch.actions[i, 0].item()
        ended = any(batch.terminations[i].tolist())
        target_return = batch.returns[i, 0].item()
        if online.shape[2] == 1:
            q, q_later = online[i, :, 0], later[i, :, 0]
            bootstrap = 0.0 if ended else 0.99**3 * max(q_later.tolist())
            td = (q[action] - target_return - bootstrap) ** 2
        else:
            atoms = [-10 + 0.4 * k for k in range(51)]
            q = online[i].softmax(1) @ torch.tensor(atoms)
            later_p = later[i].softmax(1)
            best = (later_p @ torch.tensor(atoms)).argmax().item()
            mass = [0.0] * 51
            for k, atom in enumerate(atoms):
                moved = min(max(target_return + (0.0 if ended else 0.99**3 * atom), -10.0), 10.0)
                place = (moved + 10) / 0.4
                lower = min(math.floor(place), 49)
                mass[lower] += later_p[best, k].item() * (lower + 1 - place)
                mass[lower + 1] += later_p[best, k].item() * (place - lower)
            td = -(torch.tensor(mass) * online[i, action].log_softmax(0)).sum()
        total = total + td + 0.1 * (q.exp().sum().log() - q[action])
    return total / len(batch.games)


@pytest.mark.parametrize("name", NAMES)
def test_loss_by_definition(name, real_batch):
    objective = make(name)
    batch = real_batch(objective)
    batch.returns = torch.randn_like(batch.returns) * 4
    batch.terminations[2, 0] = batch.terminations[5, 2] = True
    loss, metrics = objective.loss(batch)
    torch.testing.assert_close(loss, slow_loss(objective, batch), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss, metrics["td_loss"] + 0.1 * metrics["cql_loss"])
    assert set(batch.games.tolist()) == {0, 1}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_terminal_anywhere_in_the_window_cuts_the_bootstrap(name, position, real_batch):
    objective = make(name)
    batch = real_batch(objective)
    bootstrapped, _ = objective.loss(batch)
    batch.terminations[:, position] = True
    cut, _ = objective.loss(batch)
    assert cut != bootstrapped
    batch.frames[:, 4:] = 0  # what follows no longer matters, but for the frames that o_t shares
    torch.testing.assert_close(objective.loss(batch)[0], cut)  # the target is the same but for the rounding of its sum


@pytest.mark.parametrize("name", NAMES)
def test_rewards_near_an_end_count(name, frame_cache, tmp_path):
    """The window that ends with the episode has the rewards of all of its steps."""
    objective = make(name)
    rewards = frame_cache.rewards.clone()
    last = frame_cache.starts + frame_cache.lengths - 1
    rewards[last] = 5.0
    cache = FrameCache(**{**vars(frame_cache), "rewards": rewards})
    sampler = WindowSampler(cache, objective.window, batch_size=64, seed=0)
    found = 0
    for step in range(sampler.steps_per_epoch):
        batch = sampler.batch(step)
        signs = batch.rewards.sign()
        by_loop = sum(0.99**k * signs[:, k] for k in range(3))
        torch.testing.assert_close(batch.returns[:, 0], by_loop)
        found += int((batch.rewards[:, 2] == 5.0).sum())
    assert found > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_target_moves_at_every_step_unless_told_otherwise(name):
    for momentum, share in ((0.99, 0.01), (1.0, 0.0), (0.0, 1.0)):
        objective = make(name, momentum=momentum)
        pairs = [(getattr(objective, part), getattr(objective, f"target_{part}")) for part in ("backbone", "neck", "head")]
        for online, target in pairs:
            torch.nn.init.ones_(next(online.parameters()))
            torch.nn.init.zeros_(next(target.parameters()))
        objective.after_step(0.5)
        for _, target in pairs:
            moved = next(target.parameters())
            torch.testing.assert_close(moved, torch.full_like(moved, share))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_the_online_network_alone(name, real_batch):
    objective = make(name)
    batch = real_batch(objective)
    batch.frames[:, 4:] = batch.frames[:, 3:4]
    objective.loss(batch)[0].backward()
    for part in (objective.backbone, objective.neck, objective.head):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
    for part in (objective.target_backbone, objective.target_neck, objective.target_head):
        assert all(p.grad is None for p in part.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_training_ranks_the_action_that_pays_first(name, real_batch):
    """One step to the end, a reward for action 3 alone: its value becomes the return, that of others less."""
    torch.manual_seed(1)
    objective = make(name)
    batch = real_batch(objective)
    batch.terminations[:] = True
    batch.actions[:, 0] = torch.tensor([3, 1, 3, 1, 3, 1, 3, 1])
    batch.returns[:, 0] = (batch.actions[:, 0] == 3).float()
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
    for _ in range(120):
        optimizer.zero_grad()
        objective.loss(batch)[0].backward()
        optimizer.step()
    values = objective.action_scores(batch.observation(), batch.games)
    assert values.shape == (8, 18)
    chosen = values.gather(1, batch.actions[:, :1]).squeeze(1)
    torch.testing.assert_close(chosen, batch.returns[:, 0], atol=0.35, rtol=0)
    assert (values[::2].argmax(1) == 3).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"alpha": -0.1}, "alpha >= 0"), ({"momentum": 1.1}, "momentum in"), ({"atoms": 1}, "two atoms")],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message):
        make("cql_d", **options)
