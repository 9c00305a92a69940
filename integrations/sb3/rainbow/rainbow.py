"""Rainbow: deep Q-learning with six extensions, each of which can be switched off."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeVar, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import LinearSchedule, get_parameters_by_name

from pretrainrl.agent_cards import AGENTS
from pretrainrl.device import choose_precision, warn_if_emulated
from pretrainrl.integrations.sb3.agents import arguments_of
from pretrainrl.integrations.sb3.encoding.necks import ExtractorWithNeck
from pretrainrl.integrations.sb3.encoding.standardization import fit_from_experience
from pretrainrl.integrations.sb3.rainbow import arguments
from pretrainrl.integrations.sb3.rainbow.heads import Distributional
from pretrainrl.integrations.sb3.rainbow.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, RainbowNetwork, RainbowPolicy
from pretrainrl.integrations.sb3.rainbow.update import Transitions, clip_gradients, td_losses
from pretrainrl.integrations.sb3.replay.compact_replay import check_replay_buffer
from pretrainrl.networks.optimization import update_momentum

SelfRainbow = TypeVar("SelfRainbow", bound="Rainbow")


class Rainbow(OffPolicyAlgorithm):
    """Rainbow (Hessel et al., 2018, https://arxiv.org/abs/1710.02298), for discrete actions.

    Deep Q-learning with double Q-learning, prioritized replay, dueling networks, n-step returns, distributional returns
    and noisy networks; the defaults are the paper's, but for `learning_starts`. Where the features extractor begins with a
    frozen encoder, a batch passes through it once an update.

    Args:
        policy: Policy, `MlpPolicy`, `CnnPolicy` or `MultiInputPolicy`, by name or class.
        env: Environment, or the id of one that Gymnasium knows.
        learning_rate: Number, or a function of what remains of training, from 1 to 0.
        buffer_size: Number of transitions in the replay buffer.
        learning_starts: Number of steps with random actions before learning.
        batch_size: Number of transitions in an update.
        tau: Step of target updates, in (0, 1]. 1 copies the online network into the target network every
            `target_update_interval` environment steps; less moves the target by that share after every
            `target_update_interval` updates (an EMA of momentum `1 - tau`).
        gamma: Discount.
        train_freq: Number of steps of every environment between updates, or a tuple such as `(2, "episode")`.
        gradient_steps: Number of updates each time; -1 for as many as there were transitions.
        replay_buffer_class: Class instead of `PrioritizedReplayBuffer`, or of `CompactReplayBuffer` without `prioritized`.
            With it, it must have `update_priorities`; without, it has to be told of `n_steps` by `replay_buffer_kwargs`.
        replay_buffer_kwargs: Further arguments of the replay buffer. Its memory is allocated when learning begins.
        optimize_memory_usage: Argument of the replay buffer; those of this package save memory anyway.
        n_steps: Number of rewards that are summed before bootstrapping, at least 1.
        target_update_interval: Interval of target updates, see `tau`; by default 8,000 steps with `tau=1`, else 1 update.
        exploration_fraction: Share of training in [0, 1], counted from `learning_starts`, in which exploration falls to its
            final rate; 0 explores at the final rate from the beginning.
        exploration_initial_eps: Share of random actions at first.
        exploration_final_eps: Share of random actions in the end. With `noisy` there are none.
        max_grad_norm: Norm to which gradients are scaled down; None leaves them.
        double_q: Whether the online network chooses the action that the target network values.
        dueling: Whether there are separate streams for values and advantages.
        noisy: Whether the agent explores by learned noise in the weights of the head.
        distributional: Kind of distribution of returns that is learned: `c51`, `quantile`, or None for their mean.
        n_atoms: Number of atoms of `c51`, at least 2.
        n_quantiles: Number of quantiles of `quantile`, at least 1.
        v_min: Least return that `c51` can represent.
        v_max: Greatest return that `c51` can represent.
        prioritized: Whether transitions with a large loss are replayed more often.
        per_alpha: Exponent of priorities, at least 0; 0 is uniform replay.
        per_beta: Exponent of importance weights: a function of what remains of training, or a number from which it rises
            linearly to 1.
        acting_net: Network that chooses actions: `online` or `target`.
        augment: Whether observations and next observations are changed in every update, each sample at random: images are
            shifted and vary in intensity, feature maps are shifted by a cell, and of the views that
            `VecEncodeObservation(..., views=k)` gives, an augmented one is drawn.
        precision: Type that updates are computed in. `32-true`: float32. `bf16-mixed`: networks in bfloat16; weights,
            optimizer and losses stay in float32, as do frozen encoders and the choice of actions. `auto`: `bf16-mixed` where
            the device has bfloat16 in hardware and convolutions are trained, else `32-true`. The attribute `precision` says
            which it is; it is saved with the agent, which goes on in it wherever it is loaded.
        stats_window_size: Number of episodes over which logged returns and lengths are averaged.
        tensorboard_log: Folder of TensorBoard's logs; None for none.
        policy_kwargs: Further arguments of the policy, such as `policy_kwargs` and `neck_policy_kwargs` make. What is an
            argument here is refused there, unless it says the same.
        verbose: Level of messages: 0 none, 1 what is done, 2 more.
        seed: Seed of all random numbers; None for a new one each time.
        device: Device of the networks; `auto` takes an accelerator if there is one.

    Raises:
        InputError: When spaces or arguments do not fit; `load` also refuses those of another network than the saved one.
        UnknownNameError: When `distributional`, `acting_net` or `precision` is none of these.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy: RainbowPolicy
    q_net: RainbowNetwork
    q_net_target: RainbowNetwork
    exploration_schedule: Schedule
    per_beta_schedule: Schedule

    def __init__(
        self,
        policy: str | type[RainbowPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 6.25e-5,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 32,
        tau: float = 1.0,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 4,
        gradient_steps: int = 1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 3,
        target_update_interval: int | None = None,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.01,
        max_grad_norm: float | None = 10.0,
        *,
        double_q: bool = True,
        dueling: bool = True,
        noisy: bool = True,
        distributional: Distributional | None = "c51",
        n_atoms: int = 51,
        n_quantiles: int = 200,
        v_min: float = -10.0,
        v_max: float = 10.0,
        prioritized: bool = True,
        per_alpha: float = 0.5,
        per_beta: float | Schedule = 0.4,
        acting_net: Literal["online", "target"] = "online",
        augment: bool = False,
        precision: str = "32-true",
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            replay_buffer_class=replay_buffer_class,
            # SB3 writes into both dictionaries.
            replay_buffer_kwargs=dict(replay_buffer_kwargs or {}),
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            policy_kwargs=dict(policy_kwargs or {}),
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
            sde_support=False,
            support_multi_env=True,
        )
        self.target_update_interval = target_update_interval or (8_000 if tau == 1 else 1)
        self.exploration_fraction = exploration_fraction
        self.exploration_initial_eps = exploration_initial_eps
        self.exploration_final_eps = exploration_final_eps
        self.max_grad_norm = max_grad_norm
        self.double_q, self.dueling, self.noisy = double_q, dueling, noisy
        self.distributional = distributional
        self.n_atoms, self.n_quantiles, self.v_min, self.v_max = n_atoms, n_quantiles, v_min, v_max
        self.prioritized, self.per_alpha, self.per_beta = prioritized, per_alpha, per_beta
        self.acting_net = acting_net
        self.augment, self.precision = augment, precision
        self.exploration_rate = 0.0
        self.algorithm, self._network = "Rainbow", arguments.network_arguments(self)  # which saved agents tell
        self._n_calls = 0
        self._loss_sum, self._loss_count = torch.zeros(()), 0

        if _init_setup_model:
            self._setup_model()
            check_replay_buffer(self)

    @classmethod
    def atari_pb(cls, total_timesteps: int = 50_000, n_envs: int = 1) -> dict[str, Any]:
        """Return the arguments of Atari-PB's online fine-tuning, which are in the card `registry/agents/rainbow.toml`.

        Atari-PB puts its spatial neck before the head: `policy_kwargs(encoder, neck="spatial_mlp")`. It evaluates with
        `exploration_rate = 0.001`.

        Args:
            total_timesteps: Number of steps of `learn`; 50,000 in Atari-PB. Exploration ends after 10,000 steps. Shorter runs
                wait and explore for the same shares of their steps.
            n_envs: Number of environments, 1 in Atari-PB; there are two updates for every transition.
        """
        preset = AGENTS.get("rainbow").preset("atari_pb").scaled(total_timesteps, n_envs)
        return {**arguments_of(preset), "augment": True}

    def _setup_model(self) -> None:
        arguments.check_arguments(self)
        completed = arguments.complete_arguments(self)
        given = {name: getattr(self, name) for name in completed}
        self.__dict__.update(completed)
        super()._setup_model()
        self.__dict__.update(given)  # which is what is saved
        self.q_net, self.q_net_target = self.policy.q_net, self.policy.q_net_target
        self.precision = choose_precision(self.precision, self.q_net.features_extractor, self.device)
        self.exploration_schedule = arguments.make_exploration_schedule(self)
        self.per_beta_schedule = self.per_beta if callable(self.per_beta) else LinearSchedule(self.per_beta, 1.0, 1.0)

    @property
    def batch_norm_stats(self) -> list[torch.Tensor]:
        """Running statistics of the online network, as in Stable-Baselines3's DQN."""
        return get_parameters_by_name(self.q_net, ["running_"])

    @property
    def batch_norm_stats_target(self) -> list[torch.Tensor]:
        """Running statistics of the target network, as in Stable-Baselines3's DQN."""
        return get_parameters_by_name(self.q_net_target, ["running_"])

    def _on_step(self) -> None:
        """Update exploration rate and, with `tau=1`, the target network, after each step of the environments."""
        self._n_calls += 1
        if self.tau == 1 and self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            self._update_target()
        waited = self.learning_starts / max(self._total_timesteps, 1)
        self.exploration_rate = self.exploration_schedule(min(1.0, self._current_progress_remaining + waited))
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def _update_target(self) -> None:
        update_momentum(self.q_net_target, self.q_net, 1 - self.tau)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Make updates with batches from the replay buffer; wait while it has none, as after an agent was loaded."""
        if not getattr(self.replay_buffer, "is_ready", True):
            return
        extractor = self.q_net.features_extractor
        if isinstance(extractor, ExtractorWithNeck) and extractor.lacks_statistics:
            fit_from_experience(self)
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        for _ in range(gradient_steps):
            self._update(batch_size)
            self._n_updates += 1
            if self.tau < 1 and self._n_updates % self.target_update_interval == 0:
                self._update_target()
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _update(self, batch_size: int) -> None:
        """Make one update."""
        batch = self._sample(batch_size)
        self.policy.draw_noise()
        losses, priorities = td_losses(
            self.q_net,
            self.q_net_target,
            batch,
            double_q=self.double_q,
            augment=self.augment,
            gamma=self.gamma,
            precision=self.precision,
        )
        loss = (batch.weights.squeeze(1) * losses).mean() if self.prioritized else losses.mean()
        self.policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.max_grad_norm is not None:
            clip_gradients(list(self.q_net.parameters()), self.max_grad_norm)
        self.policy.optimizer.step()
        if self.prioritized:
            cast(Any, self.replay_buffer).update_priorities(batch.indices, priorities)
        self._loss_sum = self._loss_sum.to(self.device) + loss.detach()
        self._loss_count += 1

    def _sample(self, batch_size: int) -> Transitions:
        """Draw a batch; without prioritized replay it has neither weights nor indices."""
        buffer: Any = self.replay_buffer
        if not self.prioritized:
            return cast(Transitions, buffer.sample(batch_size, env=self._vec_normalize_env))
        beta = self.per_beta_schedule(self._current_progress_remaining)
        return cast(Transitions, buffer.sample(batch_size, env=self._vec_normalize_env, beta=beta))

    def dump_logs(self) -> None:
        """Write the logs; only now is the mean loss since the last time read, which waits for the device."""
        if self._loss_count:
            self.logger.record("train/loss", self._loss_sum.item() / self._loss_count)
            self._loss_sum, self._loss_count = torch.zeros_like(self._loss_sum), 0
        super().dump_logs()

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Choose an action for each observation; unless `deterministic`, each may be random, or see noise of its own.

        Args:
            observation: Observation, or a batch of them.
            state: State, which is passed through.
            episode_start: Argument without effect.
            deterministic: Whether to choose without exploration.

        Returns:
            The actions, () or (B,) int64, and `state`.
        """
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        if not deterministic and self.exploration_rate > 0:
            explore = np.random.random(actions.shape) < self.exploration_rate
            n_actions = cast(spaces.Discrete, self.action_space).n
            actions = np.where(explore, np.random.randint(n_actions, size=actions.shape), actions)
        return actions, state

    def learn(
        self: SelfRainbow,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "Rainbow",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfRainbow:
        """Learn for `total_timesteps` transitions; see Stable-Baselines3's `learn`.

        Raises:
            InputError: When the replay buffer is too small for `n_steps`, too large for memory, or of another discount.
        """
        check_replay_buffer(self)
        warn_if_emulated(self.precision, self.device)
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "q_net", "q_net_target", "_loss_sum", "_loss_count"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
