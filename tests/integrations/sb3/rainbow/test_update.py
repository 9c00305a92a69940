"""Each of Rainbow's parts against its definition, computed slowly, transition by transition."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor

from pretrainrl.integrations.sb3 import Rainbow
from pretrainrl.integrations.sb3.rainbow.heads import ActionHead, NoisyLinear, draw_noise
from pretrainrl.integrations.sb3.rainbow.policies import RainbowPolicy
from pretrainrl.integrations.sb3.rainbow.update import td_losses
from pretrainrl.integrations.sb3.replay.prioritized_replay import PrioritizedReplayBufferSamples

BATCH, ACTIONS, ATOMS, LOW, HIGH = 6, 3, 5, -2.0, 3.0
ATOM_VALUES = [LOW + i * (HIGH - LOW) / (ATOMS - 1) for i in range(ATOMS)]


def policy(**arguments: Any) -> Any:
    torch.manual_seed(0)
    made: Any = RainbowPolicy(
        Box(-1, 1, (4,)),
        Discrete(ACTIONS),
        lambda _: 1e-3,
        net_arch=[8],
        n_atoms=ATOMS,
        n_quantiles=ATOMS,
        v_min=LOW,
        v_max=HIGH,
        **{"noisy": False, **arguments},
    )
    with torch.no_grad():
        for parameter in made.q_net_target.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # so that the networks prefer different actions
        for net in (made.q_net, made.q_net_target):
            net.head.advantage[-1].weight.mul_(4)
    return made


def transitions() -> PrioritizedReplayBufferSamples:
    rng = torch.Generator().manual_seed(1)
    return PrioritizedReplayBufferSamples(
        observations=torch.randn(BATCH, 4, generator=rng),
        actions=torch.tensor([[0], [1], [2], [0], [1], [2]]),
        next_observations=torch.randn(BATCH, 4, generator=rng),
        dones=torch.tensor([[0.0], [1], [0], [0], [1], [0]]),
        rewards=torch.tensor([[0.0], [1], [-1], [0.4], [5], [-5]]),
        discounts=torch.tensor([[0.9], [0.9], [0.81], [0.729], [0.9], [0.81]]),
        weights=torch.ones(BATCH, 1),
        indices=np.arange(BATCH),
    )


def slow_mean(kind: str | None, outputs: Tensor) -> float:
    if kind == "c51":
        return sum(p * z for p, z in zip(outputs.softmax(0).tolist(), ATOM_VALUES, strict=True))
    return outputs.mean().item()


def slow_loss(kind: str | None, outputs: Tensor, following: Tensor, reward: float, discount: float) -> float:
    if kind is None:
        error = abs(reward + discount * following.item() - outputs.item())
        return 0.5 * error**2 if error < 1 else error - 0.5
    if kind == "quantile":
        mapped = reward + discount * following
        return quantile_huber_loss(outputs[None], mapped[None], sum_over_quantiles=True).item()
    gap, target = (HIGH - LOW) / (ATOMS - 1), [0.0] * ATOMS
    for probability, atom in zip(following.softmax(0).tolist(), ATOM_VALUES, strict=True):
        moved = min(max(reward + discount * atom, LOW), HIGH)
        for i, place in enumerate(ATOM_VALUES):  # a triangle as wide as two gaps
            target[i] += probability * max(0.0, 1 - abs(moved - place) / gap)
    return -sum(p * q for p, q in zip(target, outputs.log_softmax(0).tolist(), strict=True))


@pytest.mark.parametrize("kind", ["c51", "quantile", None])
@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("dueling", [True, False])
def test_losses_are_the_slow_reference(kind: Any, double_q: bool, dueling: bool) -> None:
    nets, batch = policy(distributional=kind, dueling=dueling), transitions()
    losses, priorities = td_losses(nets.q_net, nets.q_net_target, batch, double_q=double_q, augment=False, gamma=0.5)
    now, later = nets.q_net(batch.observations), nets.q_net(batch.next_observations)
    target = nets.q_net_target(batch.next_observations)
    expected, disagreements = [], 0
    for row in range(BATCH):
        online, own = (max(range(ACTIONS), key=lambda a: slow_mean(kind, net[row, a])) for net in (later, target))
        disagreements += online != own
        discount = (batch.discounts * (1 - batch.dones))[row].item()
        taken, best = now[row, batch.actions[row, 0]], target[row, online if double_q else own]
        expected.append(slow_loss(kind, taken, best, batch.rewards[row].item(), discount))
    assert disagreements, "or double Q-learning would not show"
    torch.testing.assert_close(losses, torch.tensor(expected), rtol=1e-4, atol=1e-5)
    assert losses.requires_grad and not priorities.requires_grad
    if kind is not None:
        assert torch.equal(priorities, losses.detach())
    losses.mean().backward()
    assert all(parameter.grad is None for parameter in nets.q_net_target.parameters())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in nets.q_net.parameters())


def test_scalar_priority_is_the_size_of_the_error() -> None:
    nets, batch = policy(distributional=None), transitions()
    losses, priorities = td_losses(nets.q_net, nets.q_net_target, batch, double_q=True, augment=False, gamma=0.5)
    huber = torch.where(priorities < 1, priorities**2 / 2, priorities - 0.5)
    torch.testing.assert_close(losses.detach(), huber)


def test_without_discounts_gamma_is_the_discount() -> None:
    nets, batch = policy(), transitions()
    arguments: dict[str, Any] = {"double_q": True, "augment": False, "gamma": 0.9}
    without: dict[str, Any] = {"discounts": None}
    none, same = batch._replace(**without), batch._replace(discounts=torch.full((BATCH, 1), 0.9))
    assert torch.equal(*(td_losses(nets.q_net, nets.q_net_target, each, **arguments)[0] for each in (none, same)))


# --- dueling


@pytest.mark.parametrize("size", [1, ATOMS])
def test_dueling_head_adds_what_advantages_have_above_their_mean(size: int) -> None:
    head: Any = ActionHead(8, ACTIONS, size, [6], torch.nn.ReLU, dueling=True, noisy=False)
    features = torch.randn(BATCH, 8)
    outputs, value = head(features), head.value(features)
    torch.testing.assert_close(outputs.mean(dim=1), value, msg="the mean over actions is the state's value")
    advantage = head.advantage(features).view(BATCH, ACTIONS, size)
    torch.testing.assert_close(outputs[2, 1, -1], value[2, -1] + advantage[2, 1, -1] - advantage[2, :, -1].mean())


# --- noise


def test_noisy_layer_is_a_linear_layer_with_factorised_noise() -> None:
    layer, x = NoisyLinear(5, 4), torch.randn(7, 5)
    means = torch.nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), means, msg="none was drawn")
    draw_noise([layer])
    assert layer.noise
    inputs, outputs = layer.noise
    weight = layer.weight + layer.weight_sigma * outer(outputs, inputs)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, weight, layer.bias + layer.bias_sigma * outputs[0]))
    assert layer.weight_sigma[0, 0].item() == pytest.approx(0.5 / 5**0.5)
    first = layer(x)
    assert torch.equal(first, layer(x)), "noise stays until it is drawn anew"
    draw_noise([layer])
    assert not torch.equal(first, layer(x))
    layer.eval()
    torch.testing.assert_close(layer(x), means)


def outer(outputs: Tensor, inputs: Tensor) -> Tensor:
    return outputs[0][:, None] * inputs[0][None, :]


def test_noise_has_unit_scale_and_differs_between_rows() -> None:
    layer = NoisyLinear(3, 2)
    draw_noise([layer], 20_000)
    assert layer.noise
    inputs, _ = layer.noise
    # f(x)^2 = |x|, whose mean is sqrt(2 / pi).
    assert (inputs**2).mean().item() == pytest.approx((2 / np.pi) ** 0.5, rel=0.02) and abs(inputs.mean()) < 0.02
    assert len({tuple(row) for row in inputs[:100].tolist()}) == 100


def test_noise_explores_in_every_environment_and_not_when_deterministic() -> None:
    agent = Rainbow("MlpPolicy", make_vec_env("CartPole-v1", 1), buffer_size=100, seed=0, device="cpu")
    with torch.no_grad():
        for module in agent.q_net.modules():
            if isinstance(module, NoisyLinear):
                module.weight_sigma.mul_(50)
    obs = np.tile(np.array([0.1, -0.2, 0.3, 0.4], np.float32), (200, 1))
    assert len(np.unique(agent.predict(obs, deterministic=True)[0])) == 1
    share = agent.predict(obs)[0].mean()
    assert 0.1 < share < 0.9, "rows have noise of their own"
    assert agent.exploration_schedule(1.0) == 0, "and no action is random"


def test_noise_is_new_at_every_update_in_both_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Rainbow("MlpPolicy", "CartPole-v1", buffer_size=100, learning_starts=20, batch_size=4, device="cpu")
    agent: Any = made.learn(24)
    seen: list[Tensor] = []
    step = agent.policy.optimizer.step

    def spy(*args: Any, **kwargs: Any) -> None:
        seen.extend(net.head.advantage[0].noise[0] for net in (agent.q_net, agent.q_net_target))
        step(*args, **kwargs)

    monkeypatch.setattr(agent.policy.optimizer, "step", spy)
    agent.train(3, 4)
    assert len({tuple(noise.flatten().tolist()) for noise in seen}) == 6


# --- epsilon


def test_each_environment_explores_on_its_own_and_with_every_action() -> None:
    agent = Rainbow("MlpPolicy", "CartPole-v1", noisy=False, buffer_size=100, seed=0, device="cpu")
    obs = np.zeros((4_000, 4), np.float32)
    greedy = agent.predict(obs, deterministic=True)[0]
    agent.exploration_rate = 1.0
    assert np.bincount(agent.predict(obs)[0], minlength=2) / 4_000 == pytest.approx([0.5, 0.5], abs=0.05)
    agent.exploration_rate = 0.2
    assert (agent.predict(obs)[0] != greedy).mean() == pytest.approx(0.1, abs=0.02), "half of the random ones are greedy"
    assert np.array_equal(agent.predict(obs, deterministic=True)[0], greedy)


def test_exploration_falls_from_the_start_of_learning() -> None:
    env = make_vec_env("CartPole-v1", 1)
    arguments: dict[str, Any] = {
        "learning_starts": 20,
        "exploration_fraction": 0.4,
        "exploration_final_eps": 0.1,
        "train_freq": 200,
    }
    agent = Rainbow("MlpPolicy", env, noisy=False, buffer_size=200, device="cpu", **arguments)
    rates: Any = []
    agent.learn(100, lambda local, _: rates.append(local["self"].exploration_rate) or True)
    assert rates[20] == 1 and rates[40] == pytest.approx(0.55) and rates[61] == rates[99] == 0.1


# --- prioritised replay


def test_importance_weights_and_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Rainbow("MlpPolicy", "CartPole-v1", noisy=False, buffer_size=100, learning_starts=50, device="cpu", seed=0)
    agent.learn(50)
    replay: Any = agent.replay_buffer
    sample, update, betas = replay.sample, replay.update_priorities, []
    told: Any = []
    weights = torch.linspace(0.1, 1, 8)[:, None]

    def spy(batch_size: int, env: Any = None, *, beta: float) -> Any:
        betas.append(beta)
        return sample(batch_size, env, beta=beta)._replace(weights=weights)

    monkeypatch.setattr(agent.replay_buffer, "sample", spy)
    monkeypatch.setattr(agent.replay_buffer, "update_priorities", lambda *given: told.append(given) or update(*given))
    for remaining in (1.0, 0.5, 0.0):
        agent._current_progress_remaining = remaining
        online = copy.deepcopy(agent.q_net)
        loss_before = agent._loss_sum.clone()
        agent.train(1, 8)
        indices, priorities = told[-1]
        assert len(indices) == 8 and priorities.shape == (8,)
        torch.testing.assert_close(agent._loss_sum - loss_before, (weights[:, 0] * priorities).mean())
        assert any(not torch.equal(a, b) for a, b in zip(online.parameters(), agent.q_net.parameters(), strict=True))
    assert betas == pytest.approx([0.4, 0.7, 1.0])


def test_gradients_are_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Rainbow("MlpPolicy", "CartPole-v1", max_grad_norm=1e-3, buffer_size=100, learning_starts=20, device="cpu").learn(
        22
    )
    agent.train(1, 8)
    norm = torch.stack([p.grad.norm() for p in agent.q_net.parameters()]).norm()
    assert 0 < norm <= 1.001e-3
