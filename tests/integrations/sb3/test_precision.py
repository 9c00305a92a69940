"""Agents learn in the precision that they are asked to, and say which it is."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from sb3_agents import CHANNEL_FIRST, RandomFrames, small
from stable_baselines3.common.evaluation import evaluate_policy
from torch import Tensor

import pretrainrl.device
from pretrainrl.errors import UnknownNameError
from pretrainrl.integrations.sb3 import BehaviorCloning, Rainbow
from pretrainrl.integrations.sb3.rainbow.heads import NoisyLinear, draw_noise
from pretrainrl.integrations.sb3.rainbow.update import clip_gradients, td_losses

pytestmark = pytest.mark.filterwarnings("ignore:.*bfloat16 in software")
SETTINGS: dict[str, Any] = {
    "buffer_size": 64,
    "learning_starts": 20,
    "batch_size": 8,
    "train_freq": 1,
    "seed": 0,
    "device": "cpu",
}
KINDS = ("c51", "quantile", None)


def pixels(**arguments: Any) -> Rainbow:
    return Rainbow("CnnPolicy", RandomFrames(CHANNEL_FIRST), **{**SETTINGS, **arguments})


def clone(**arguments: Any) -> BehaviorCloning:
    spaces: dict[str, Any] = {"observation_space": CHANNEL_FIRST, "action_space": Discrete(3)}
    return BehaviorCloning("CnnPolicy", **{**spaces, "seed": 0, "device": "cpu", **arguments})


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the device have bfloat16 in hardware."""
    for module in (pretrainrl.device, pretrainrl.device):
        monkeypatch.setattr(module, "has_native_bf16", lambda device: True)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the device have none."""
    for module in (pretrainrl.device, pretrainrl.device):
        monkeypatch.setattr(module, "has_native_bf16", lambda device: False)


# --- which it is


@pytest.mark.parametrize("make", [pixels, clone])
@pytest.mark.parametrize("near", ["bf16-mixd", "32-tru"])
def test_unknown_names_have_neighbours(make: Any, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown precision '{near}'; did you mean"):
        make(precision=near)


def test_auto_is_bfloat16_where_convolutions_are_trained(native: None) -> None:
    assert pixels().precision == "32-true" == clone().precision, "unless asked"
    for make in (pixels, clone):
        assert make(precision="auto").precision == "bf16-mixed"
        assert make(precision="auto", policy_kwargs=small(trainable=True)).precision == "bf16-mixed"
        assert make(precision="auto", policy_kwargs=small()).precision == "32-true", "a frozen encoder"
    assert Rainbow("MlpPolicy", "CartPole-v1", precision="auto", **SETTINGS).precision == "32-true"


def test_auto_is_float32_without_hardware(emulated: None) -> None:
    assert pixels(precision="auto").precision == "32-true"


def test_a_device_without_it_is_named_in_a_warning(emulated: None) -> None:
    with pytest.warns(UserWarning, match="cpu computes bfloat16 in software.*'32-true' is faster here"):
        pixels(precision="bf16-mixed").learn(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels().learn(2)


@pytest.mark.parametrize("make", [pixels, clone])
def test_saved_agents_go_on_in_their_precision(
    make: Any, native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(precision="auto")
    made.save(tmp_path / "agent")
    for module in (pretrainrl.device, pretrainrl.device):
        monkeypatch.setattr(module, "has_native_bf16", lambda device: False)
    assert type(made).load(tmp_path / "agent", device="cpu").precision == "bf16-mixed"


# --- what is computed in it


def updates(precision: str, **arguments: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Losses, priorities and gradients of a batch, by networks that are the same for every precision."""
    agent = pixels(**arguments).learn(20)
    np.random.seed(0)
    torch.manual_seed(0)
    agent.policy.set_training_mode(True)
    batch = agent._sample(16)
    agent.policy.draw_noise()
    online, target = agent.q_net, agent.q_net_target
    losses, priorities = td_losses(online, target, batch, double_q=True, augment=False, gamma=0.99, precision=precision)
    losses.mean().backward()
    return losses.detach(), priorities, [each.grad for each in online.parameters() if each.grad is not None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trainable", [False, True, None])
def test_bfloat16_is_close_to_float32(kind: Any, trainable: bool | None) -> None:
    kwargs: dict[str, Any] = {"net_arch": [32]} if trainable is None else small(trainable=trainable, net_arch=[32])
    exact, close = (updates(p, distributional=kind, policy_kwargs=kwargs) for p in ("32-true", "bf16-mixed"))
    assert close[0].dtype == close[1].dtype == torch.float32
    assert not torch.equal(exact[0], close[0]), "it was computed otherwise"
    torch.testing.assert_close(close[0], exact[0], rtol=0.03, atol=0.03)
    assert close[1].isfinite().all() and (close[1] >= 0).all()
    assert len(close[2]) == len(exact[2])
    for ours, theirs in zip(close[2], exact[2], strict=True):
        assert ours.dtype == torch.float32 and ours.isfinite().all()
        assert (ours - theirs).norm() <= 0.3 * theirs.norm() + 1e-6, "as far as a unit that is just on or just off"


def test_weights_and_optimizer_stay_float32_and_acting_is_exact() -> None:
    agent = pixels(precision="bf16-mixed").learn(30)
    assert agent._n_updates > 5 and agent._loss_sum.isfinite()
    state = [value for each in agent.policy.optimizer.state.values() for value in each.values()]
    assert {each.dtype for each in [*agent.policy.state_dict().values(), *state]} == {torch.float32}
    agent.policy.set_training_mode(False)
    obs = torch.as_tensor(np.stack([agent.observation_space.sample() for _ in range(4)]))
    with torch.no_grad():
        values = agent.q_net.q_values(obs)
        assert torch.equal(values.argmax(1), torch.as_tensor(agent.predict(obs.numpy(), deterministic=True)[0]))
    assert values.dtype == torch.float32


def test_a_clone_learns_in_bfloat16() -> None:
    made = clone(precision="bf16-mixed", policy_kwargs={"net_arch": [16]}, learning_rate=1e-3)
    torch.manual_seed(0)
    obs, actions = torch.randint(0, 256, (24, 4, 84, 84), dtype=torch.uint8), torch.arange(24) % 3
    made._logger = None  # type: ignore[assignment]  # nothing is logged
    made._update_learning_rate = lambda optimizer: None  # type: ignore[method-assign,assignment]
    exact, close = (made._logits(obs, False, augment=False, precision=precision) for precision in ("32-true", "bf16-mixed"))
    assert close.dtype == torch.float32 and not torch.equal(exact, close)
    torch.testing.assert_close(close, exact, rtol=0.05, atol=0.02)
    losses = [made._update(obs, actions, False)[0].item() for _ in range(12)]
    assert losses[-1] < losses[0]


# --- what float32 is computed by


@pytest.mark.parametrize("rows", [1, 5, 32])
@pytest.mark.parametrize("needs_input", [False, True])
def test_gradients_of_noisy_layers_are_those_of_the_definition(rows: int, needs_input: bool) -> None:
    torch.manual_seed(0)
    layer, x = NoisyLinear(6, 4), torch.randn(rows, 6, requires_grad=needs_input)
    draw_noise([layer])
    assert layer.noise
    inputs, outputs = layer.noise
    weight = layer.weight + layer.weight_sigma * outputs[0][:, None] * inputs[0][None, :]
    slow = torch.nn.functional.linear(x, weight, layer.bias + layer.bias_sigma * outputs[0])
    wanted, upstream = [*layer.parameters(), *([x] if needs_input else [])], torch.randn(rows, 4)
    fast = layer(x)
    torch.testing.assert_close(fast, slow)
    for ours, theirs in zip(*(torch.autograd.grad(each, wanted, upstream) for each in (fast, slow)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("max_norm", [1e-3, 0.5, 1e3, float("nan")])
def test_gradients_are_clipped_as_pytorch_does(max_norm: float) -> None:
    pairs = [[torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2, 2))] for _ in range(2)]
    for parameters in pairs:
        parameters[0].grad = torch.tensor([0.1, -0.7, 0.3])
    clip_gradients(pairs[0], max_norm)
    torch.nn.utils.clip_grad_norm_(pairs[1], max_norm)
    torch.testing.assert_close(pairs[0][0].grad, pairs[1][0].grad, rtol=0, atol=0, equal_nan=True)


# --- and what is learnt


class Where(gym.Env[np.ndarray, Any]):
    """A bright square in one of three places; the action that names the place is rewarded. One step an episode."""

    observation_space, action_space = Box(0, 255, (4, 36, 36), np.uint8), Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(3))
        frame = self.np_random.integers(0, 100, self.observation_space.shape, dtype=np.uint8)
        frame[:, 12:24, 12 * self.place : 12 * self.place + 12] += 150
        return frame, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(self.observation_space.shape, np.uint8), float(action == self.place), True, False, {}


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["c51", "quantile"])
def test_scores_are_those_of_float32(kind: Any) -> None:
    """Random play scores a third; both precisions end above nine tenths, with three seeds each."""
    scores: dict[str, list[float]] = {}
    for precision in ("32-true", "bf16-mixed"):
        for seed in range(3):
            agent: Any = Rainbow(
                "CnnPolicy", Where(), learning_rate=1e-3, buffer_size=1_000, learning_starts=100, batch_size=16, train_freq=2,
                seed=seed, n_steps=1, target_update_interval=50, distributional=kind, n_quantiles=16, v_min=-1, v_max=2,
                precision=precision, device="cpu", policy_kwargs={"features_extractor_kwargs": {"features_dim": 32}},
            ).learn(500)  # fmt: skip
            score: Any = evaluate_policy(agent, agent.get_env(), n_eval_episodes=100, warn=False)[0]
            scores.setdefault(precision, []).append(float(score))
    print(kind, scores)
    assert min(map(min, scores.values())) > 0.9
    assert abs(np.mean(scores["32-true"]) - np.mean(scores["bf16-mixed"])) < 0.05
