"""Rainbow in a single loop, as it is written where clarity comes first (in the manner of CleanRL's `rainbow_atari`).

One environment, observations stored whole, segment trees walked in Python, noisy weights made anew in every forward pass.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.wrappers import AtariPreprocessing, ClipReward, FrameStackObservation
from numpy.typing import NDArray
from torch import Tensor, nn

gym.register_envs(ale_py)


class NoisyLinear(nn.Module):
    """Linear layer with factorised Gaussian noise."""

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight_mu = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((out_features, in_features), sigma * bound))
        self.bias_mu = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))
        self.bias_sigma = nn.Parameter(torch.full((out_features,), sigma * bound))
        self.register_buffer("weight_epsilon", torch.empty(out_features, in_features))
        self.register_buffer("bias_epsilon", torch.empty(out_features))
        self.reset_noise()

    def reset_noise(self) -> None:
        """Draw new noise for every weight."""
        inputs, outputs = (torch.randn(size) for size in reversed(self.weight_mu.shape))
        inputs, outputs = (noise.sign() * noise.abs().sqrt() for noise in (inputs, outputs))
        self.weight_epsilon.copy_(outputs.outer(inputs))
        self.bias_epsilon.copy_(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_features) to (B, out_features)."""
        weight = self.weight_mu + self.weight_sigma * self.weight_epsilon
        return F.linear(x, weight, self.bias_mu + self.bias_sigma * self.bias_epsilon)


class Network(nn.Module):
    """The network of DQN with two noisy streams of 512 units, and 51 atoms for each action."""

    def __init__(self, n_actions: int, n_atoms: int = 51, v_max: float = 10.0) -> None:
        super().__init__()
        self.n_actions, self.n_atoms = n_actions, n_atoms
        self.register_buffer("support", torch.linspace(-v_max, v_max, n_atoms))
        self.network = nn.Sequential(
            *(nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(), nn.Flatten()),
        )
        self.value = nn.Sequential(NoisyLinear(3136, 512), nn.ReLU(), NoisyLinear(512, n_atoms))
        self.advantage = nn.Sequential(NoisyLinear(3136, 512), nn.ReLU(), NoisyLinear(512, n_atoms * n_actions))

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames (B, 4, 84, 84) to probabilities (B, n_actions, n_atoms)."""
        hidden = self.network(frames / 255.0)
        value = self.value(hidden).view(-1, 1, self.n_atoms)
        advantage = self.advantage(hidden).view(-1, self.n_actions, self.n_atoms)
        return F.softmax(value + advantage - advantage.mean(dim=1, keepdim=True), dim=2)

    def reset_noise(self) -> None:
        """Draw new noise for every layer."""
        for layer in self.modules():
            if isinstance(layer, NoisyLinear):
                layer.reset_noise()


class SegmentTree:
    """Sums or minima over a power of two of leaves, one Python loop for each walk."""

    def __init__(self, capacity: int, join: Any, neutral: float) -> None:
        self.capacity, self.join = capacity, join
        self.tree = np.full(2 * capacity, neutral, np.float32)

    def update(self, leaf: int, value: float) -> None:
        """Set a leaf and what depends on it."""
        node = leaf + self.capacity
        self.tree[node] = value
        while node > 1:
            node //= 2
            self.tree[node] = self.join(self.tree[2 * node], self.tree[2 * node + 1])

    def retrieve(self, value: float) -> int:
        """Find the leaf where the sum of those up to it passes `value`."""
        node = 1
        while node < self.capacity:
            node *= 2
            if self.tree[node] < value:
                value -= self.tree[node]
                node += 1
        return node - self.capacity


class Replay:
    """Prioritised replay of n-step transitions, whole observations before and after each."""

    def __init__(self, capacity: int, n_steps: int = 3, gamma: float = 0.99, alpha: float = 0.5) -> None:
        self.capacity, self.n_steps, self.gamma, self.alpha = capacity, n_steps, gamma, alpha
        self.observations = np.zeros((capacity, 4, 84, 84), np.uint8)
        self.next_observations = np.zeros((capacity, 4, 84, 84), np.uint8)
        self.actions = np.zeros(capacity, np.int64)
        self.rewards, self.dones = np.zeros(capacity, np.float32), np.zeros(capacity, np.bool_)
        leaves = 1 << (capacity - 1).bit_length()
        self.sums = SegmentTree(leaves, lambda left, right: left + right, 0.0)
        self.minima = SegmentTree(leaves, min, np.inf)
        self.recent: deque[Any] = deque(maxlen=n_steps)
        self.place, self.size, self.greatest = 0, 0, 1.0

    def add(self, obs: Any, action: int, reward: float, next_obs: Any, done: bool) -> None:
        """Keep a step, and the transition of n steps that it completes."""
        self.recent.append((obs, action, reward, next_obs, done))
        if len(self.recent) < self.n_steps:
            return
        place = self.place
        self.observations[place], self.actions[place] = self.recent[0][:2]
        self.next_observations[place], self.dones[place] = next_obs, done
        self.rewards[place] = sum(self.gamma**step * recent[2] for step, recent in enumerate(self.recent))
        self.set_priority(place, self.greatest)
        self.place, self.size = (place + 1) % self.capacity, min(self.size + 1, self.capacity)

    def set_priority(self, place: int, priority: float) -> None:
        """Set how much there is to learn."""
        self.sums.update(place, priority**self.alpha)
        self.minima.update(place, priority**self.alpha)

    def sample(self, batch_size: int, beta: float = 0.4) -> tuple[list[int], NDArray[np.float32]]:
        """Draw places, one from each of equal shares of the sum, and their importance weights."""
        total = float(self.sums.tree[1])
        share = total / batch_size
        places = [self.sums.retrieve(np.random.uniform(share * i, share * (i + 1))) for i in range(batch_size)]
        greatest = (self.size * self.minima.tree[1] / total) ** -beta
        chances = np.array([self.sums.tree[place + self.sums.capacity] for place in places]) / total
        return places, ((self.size * chances) ** -beta / greatest).astype(np.float32)


class PlainRainbow:
    """One environment, one loop."""

    def __init__(self, game_id: str, capacity: int, learning_starts: int) -> None:
        env = gym.make(game_id, frameskip=1)
        self.env = FrameStackObservation(ClipReward(AtariPreprocessing(env, terminal_on_life_loss=True), -1, 1), 4)
        n_actions = int(self.env.action_space.n)  # type: ignore[attr-defined]
        self.online, self.target = Network(n_actions), Network(n_actions)
        self.target.load_state_dict(self.online.state_dict())
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=6.25e-5, eps=1.5e-4)
        self.replay = Replay(capacity)
        self.learning_starts, self.steps = learning_starts, 0
        self.obs, _ = self.env.reset(seed=0)

    def learn(self, steps: int) -> None:
        """Play and learn for some steps."""
        for _ in range(steps):
            with torch.no_grad():
                chances = self.online(torch.as_tensor(self.obs, dtype=torch.float32).unsqueeze(0))
                action = int((chances * self.online.support).sum(dim=2).argmax(dim=1))
            next_obs, reward, terminated, truncated, _ = self.env.step(action)
            self.replay.add(self.obs, action, float(reward), next_obs, terminated)
            self.obs = next_obs
            if terminated or truncated:
                self.replay.recent.clear()
                self.obs, _ = self.env.reset()
            self.steps += 1
            if self.steps > self.learning_starts and self.steps % 4 == 0:
                self.update()
            if self.steps % 8000 == 0:
                self.target.load_state_dict(self.online.state_dict())

    def update(self, batch_size: int = 32) -> None:
        """Make one update."""
        self.online.reset_noise()
        self.target.reset_noise()
        replay = self.replay
        places, weights = replay.sample(batch_size)
        obs, next_obs = (torch.as_tensor(each[places]).float() for each in (replay.observations, replay.next_observations))
        actions = torch.as_tensor(replay.actions[places])
        goals = self.goals(next_obs, torch.as_tensor(replay.rewards[places]), torch.as_tensor(replay.dones[places]).float())
        chances = self.online(obs)[torch.arange(batch_size), actions]
        losses = -(goals * chances.clamp(min=1e-5).log()).sum(dim=1)
        self.optimizer.zero_grad()
        (losses * torch.as_tensor(weights)).mean().backward()
        self.optimizer.step()
        for place, loss in zip(places, losses.detach().numpy(), strict=True):
            replay.set_priority(place, float(loss) + 1e-6)
            replay.greatest = max(replay.greatest, float(loss))

    @torch.no_grad()
    def goals(self, next_obs: Tensor, rewards: Tensor, dones: Tensor) -> Tensor:
        """Project what follows the best next action onto the atoms: (B, n_atoms)."""
        support = self.target.support
        best = (self.online(next_obs) * support).sum(dim=2).argmax(dim=1)
        following = self.target(next_obs)[torch.arange(len(best)), best]
        discount = self.replay.gamma**self.replay.n_steps
        atoms = (rewards.unsqueeze(1) + (1 - dones).unsqueeze(1) * discount * support).clamp(support[0], support[-1])
        place = (atoms - support[0]) / (support[1] - support[0])
        lower, upper = place.floor().clamp(0, len(support) - 1), place.ceil().clamp(0, len(support) - 1)
        to_lower = (upper + (lower == upper).float() - place) * following
        to_upper = (place - lower) * following
        goals = torch.zeros_like(following)
        for row in range(len(goals)):
            goals[row].index_add_(0, lower[row].long(), to_lower[row])
            goals[row].index_add_(0, upper[row].long(), to_upper[row])
        return goals
