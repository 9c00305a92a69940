"""Behavior cloning: act as recorded agents did."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import check_for_correct_spaces, configure_logger
from torch import Tensor, nn

from pretrainrl.agent_cards import AGENTS
from pretrainrl.device import choose_precision, warn_if_emulated
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.agents import arguments_of
from pretrainrl.integrations.sb3.behavior_cloning.demonstrations import Demonstrations, check_environment, open_demonstrations
from pretrainrl.integrations.sb3.behavior_cloning.policies import BehaviorCloningPolicy, CnnPolicy, MlpPolicy, initialize
from pretrainrl.integrations.sb3.encoding.necks import ExtractorWithNeck
from pretrainrl.integrations.sb3.encoding.standardization import fit_standardization
from pretrainrl.integrations.sb3.rainbow import Rainbow
from pretrainrl.progress import progress_bar as show_progress

if TYPE_CHECKING:
    from pretrainrl.integrations.minari import AtariDataset

SelfBehaviorCloning = TypeVar("SelfBehaviorCloning", bound="BehaviorCloning")


class BehaviorCloning(BaseAlgorithm):
    """Behavior cloning (Pomerleau, 1991, https://doi.org/10.1162/neco.1991.3.1.88) from a Minari dataset.

    A classifier of the actions taken, trained by cross-entropy with AdamW. Its policies are Rainbow's but for the last
    layer, so it can begin a `Rainbow` run. Where a frozen encoder comes first, in the policy or as `VecEncodeObservation`,
    a dataset passes through it once: its features are kept on disk and shared by all runs.

    A timestep is a transition learned from. Callbacks are called after each update; an epoch is what a rollout is elsewhere.

    Args:
        policy: Policy, `MlpPolicy` or `CnnPolicy`, by name or class.
        env: Environment, whose game must be the dataset's; it is never stepped. Its wrappers may stack, transpose or encode
            frames; others must leave observations as they are. None where both spaces are given.
        learning_rate: Number, or a function of what remains of training, from 1 to 0.
        batch_size: Number of transitions in an update, at most as many as there are.
        n_epochs: Number of passes over the dataset in `learn`.
        max_grad_norm: Norm to which gradients are scaled down; None leaves them.
        observation_space: Space of stacked frames, (4, 84, 84) uint8; needed without `env`.
        action_space: Space of actions; needed without `env`.
        weight_decay: Weight decay of AdamW; `optimizer_kwargs` in `policy_kwargs` replace it.
        augment: Whether to shift frames and vary their intensity in every update. Each frame then passes the encoder in
            every epoch.
        precision: Type that updates are computed in. `32-true`: float32. `bf16-mixed`: networks in bfloat16; weights,
            optimizer and losses stay in float32, as do frozen encoders, validation and the choice of actions. `auto`:
            `bf16-mixed` where the device has bfloat16 in hardware and convolutions are trained, else `32-true`. The
            attribute `precision` says which it is; it is saved with the agent, which goes on in it wherever it is loaded.
        validation_fraction: Share of episodes set apart, in [0, 1), on which loss and accuracy are logged after each epoch.
        tensorboard_log: Folder of TensorBoard's logs; None for none.
        policy_kwargs: Further arguments of the policy, such as `policy_kwargs` and `neck_policy_kwargs` make.
        verbose: Level of messages: 0 none, 1 what is done, 2 more.
        seed: Seed of all random numbers; None for a new one each time.
        device: Device of the networks; `auto` takes an accelerator if there is one.

    Raises:
        InputError: When spaces or arguments do not fit.
        UnknownNameError: When `precision` is none of these.
        ValueError: When it is loaded for features of another encoder than those that it learned from.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MlpPolicy, "CnnPolicy": CnnPolicy}
    policy: BehaviorCloningPolicy
    action_space: spaces.Discrete

    def __init__(
        self,
        policy: str | type[BehaviorCloningPolicy],
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 1e-3,
        batch_size: int = 512,
        n_epochs: int = 100,
        max_grad_norm: float | None = 0.5,
        *,
        observation_space: spaces.Space[Any] | None = None,
        action_space: spaces.Space[Any] | None = None,
        weight_decay: float = 1e-4,
        augment: bool = False,
        precision: str = "32-true",
        validation_fraction: float = 0.0,
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
            policy_kwargs=dict(policy_kwargs or {}),
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
        )
        self.batch_size, self.n_epochs, self.max_grad_norm = batch_size, n_epochs, max_grad_norm
        self.weight_decay = weight_decay
        self.augment, self.precision = augment, precision
        self.validation_fraction = validation_fraction
        self.algorithm = "BehaviorCloning"  # is saved, so that the file says whose it is
        self._epoch = 0
        self._order_seed = int(torch.randint(2**31, ())) if seed is None else seed
        if _init_setup_model:
            if env is None:
                self._set_spaces(observation_space, action_space)
            self._setup_model()

    @classmethod
    def atari_pb(cls) -> dict[str, Any]:
        """Return the arguments of Atari-PB's offline fine-tuning, which are in the card `registry/agents/bc.toml`.

        Atari-PB puts its spatial neck before the head: `policy_kwargs(encoder, neck="spatial_mlp")`. Its network has
        outputs for all 18 actions, of which those that the game has not are never chosen; here they do not exist.
        """
        preset = AGENTS.get("bc").preset("atari_pb")
        return {**arguments_of(preset), "n_epochs": preset.length, "augment": True}

    def _set_spaces(self, observation_space: spaces.Space[Any] | None, action_space: spaces.Space[Any] | None) -> None:
        if observation_space is None or action_space is None:
            raise InputError("behavior cloning needs an env, or observation_space and action_space")
        self.observation_space, self.action_space = observation_space, action_space  # type: ignore[assignment]  # checked below
        self.n_envs = 1

    def _setup_model(self) -> None:
        self._check_arguments()
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        kwargs: dict[str, Any] = {"optimizer_class": torch.optim.AdamW, **self.policy_kwargs}
        if kwargs["optimizer_class"] is torch.optim.AdamW:
            kwargs.setdefault("optimizer_kwargs", {"weight_decay": self.weight_decay})
        policy = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **kwargs)
        self.policy = policy.to(self.device)  # type: ignore[assignment]  # its class was chosen among ours
        if self.env is not None:
            check_environment(self)
        self.precision = choose_precision(self.precision, self.policy.q_net.features_extractor, self.device)

    def _check_arguments(self) -> None:
        if self.algorithm != "BehaviorCloning":
            raise InputError(f"this is a saved {self.algorithm}, not a BehaviorCloning; load it with {self.algorithm}.load")
        if not issubclass(self.policy_class, BehaviorCloningPolicy):
            raise InputError(f"behavior cloning needs MlpPolicy or CnnPolicy, got {self.policy_class.__name__}")
        if not isinstance(self.action_space, spaces.Discrete) or self.action_space.start != 0:
            raise InputError(f"behavior cloning needs Discrete actions that count from 0, got {self.action_space}")
        if self.batch_size < 1 or self.n_epochs < 1:
            raise InputError(f"batch_size and n_epochs must be positive, got {self.batch_size} and {self.n_epochs}")
        if not 0 <= self.validation_fraction < 1:
            raise InputError(f"validation_fraction must be in [0, 1), got {self.validation_fraction}")

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Set the environment, of any number of copies.

        Raises:
            ValueError: When its spaces are others, such as features of another encoder.
            InputError: When a wrapper changes what is observed, so that it is no longer what was learned from.
        """
        wrapped = self._wrap_env(env, self.verbose)
        check_for_correct_spaces(wrapped, self.observation_space, self.action_space)
        check_environment(self, wrapped)
        self.n_envs = wrapped.num_envs
        super().set_env(wrapped, force_reset)

    def learn(  # type: ignore[override]  # other algorithms learn from steps of an environment
        self: SelfBehaviorCloning,
        dataset: str | AtariDataset,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "BehaviorCloning",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfBehaviorCloning:
        """Learn for `n_epochs` from a dataset.

        Args:
            dataset: Dataset, by its Minari id or open, of which some episodes may have been chosen.
            callback: Callback that is called after every update.
            log_interval: Number of epochs between two logs.
            tb_log_name: Name of the run in TensorBoard's logs.
            reset_num_timesteps: Whether to count timesteps from 0. Weights and optimizer go on either way.
            progress_bar: Whether to show progress.

        Raises:
            InputError: When the dataset's observations, actions or game are not those of the policy or the environment.
            DatasetError: When the dataset is missing or damaged.
        """
        if isinstance(dataset, str):
            from pretrainrl.integrations.minari import open_dataset

            dataset = open_dataset(dataset)
        demonstrations = open_demonstrations(self, dataset, pixels=self.augment, progress=progress_bar)
        train, validation = demonstrations.split(self.validation_fraction, self._order_seed)
        warn_if_emulated(self.precision, self.device)
        hooks = self._begin(train, callback, tb_log_name, reset_num_timesteps)
        hooks.on_training_start(locals(), globals())
        self._fit_standardization(train)
        with show_progress(disable=not progress_bar) as bar:
            task = bar.add_task("clone, epochs", total=self.n_epochs, note="")
            while self._epoch < self._last_epoch:
                hooks.on_rollout_start()
                going_on = self._train_epoch(train, hooks)
                bar.advance(task)
                hooks.on_rollout_end()
                if validation is not None:
                    self._validate(validation)
                if self._epoch % log_interval == 0 or not going_on:
                    self._dump_logs()
                if not going_on:
                    break
        hooks.on_training_end()
        return self

    def _begin(self, train: Demonstrations, callback: MaybeCallback, tb_log_name: str, reset: bool) -> BaseCallback:
        if reset:
            self.num_timesteps = self._epoch = 0
        self._num_timesteps_at_start = self.num_timesteps
        self._last_epoch = self._epoch + self.n_epochs
        self._current_progress_remaining = 1.0
        size = min(self.batch_size, len(train))
        self._total_timesteps = self.num_timesteps + self.n_epochs * (len(train) // size) * size
        self.start_time = time.time_ns()
        if not self._custom_logger:
            self._logger = configure_logger(self.verbose, self.tensorboard_log, tb_log_name, reset)
        return self._init_callback(callback)

    def _fit_standardization(self, train: Demonstrations) -> None:
        """Measure the statistics that the neck lacks from what it learns from, each observation once."""
        extractor = self.policy.q_net.features_extractor
        if not isinstance(extractor, ExtractorWithNeck) or not extractor.lacks_statistics:
            return
        observations = (obs for obs, _ in train.in_order(self.batch_size))
        if train.encoded:
            extractor.fit_standardize(observations)
        else:
            fit_standardization(self, observations)

    def _train_epoch(self, train: Demonstrations, callback: BaseCallback) -> bool:
        """Pass over the data once; return False where a callback asks to stop."""
        sums, updates, going_on = torch.zeros(2, device=self.device), 0, True
        for obs, actions in train.shuffled(min(self.batch_size, len(train)), self._order_seed, self._epoch):
            sums += self._update(obs.to(self.device), actions.to(self.device), train.encoded)
            updates += 1
            self.num_timesteps += len(actions)
            self._current_progress_remaining = 1 - (self.num_timesteps - self._num_timesteps_at_start) / (
                self._total_timesteps - self._num_timesteps_at_start
            )
            callback.update_locals(locals())
            if not callback.on_step():
                going_on = False
                break
        self._epoch += 1
        self._record("train", sums / updates)
        return going_on

    def _update(self, obs: Tensor, actions: Tensor, encoded: bool) -> Tensor:
        """Make one update; return its loss and accuracy, (2,), on the device."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        logits = self._logits(obs, encoded, augment=self.augment, precision=self.precision)
        loss = F.cross_entropy(logits, actions)
        self.policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.policy.q_net.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        self._n_updates += 1
        return torch.stack([loss.detach(), (logits.argmax(dim=1) == actions).float().mean()])

    def _logits(self, obs: Tensor, encoded: bool, *, augment: bool, precision: str = "32-true") -> Tensor:
        return self.policy.logits(obs.float() if encoded else obs, augment=augment, encoded=encoded, precision=precision)

    def _validate(self, validation: Demonstrations) -> None:
        self.policy.set_training_mode(False)
        sums = torch.zeros(2, device=self.device)
        with torch.no_grad():
            for obs, actions in validation.in_order(self.batch_size):
                labels = actions.to(self.device)
                logits = self._logits(obs.to(self.device), validation.encoded, augment=False)
                sums += torch.stack([F.cross_entropy(logits, labels, reduction="sum"), (logits.argmax(dim=1) == labels).sum()])
        self._record("validation", sums / len(validation))

    def _record(self, part: str, means: Tensor) -> None:
        loss, accuracy = means.tolist()
        self.logger.record(f"{part}/loss", loss)
        self.logger.record(f"{part}/accuracy", accuracy)

    def _dump_logs(self) -> None:
        seconds = max((time.time_ns() - self.start_time) / 1e9, 1e-9)
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / seconds))
        self.logger.record("time/epoch", self._epoch)
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)

    def initialize(self, agent: Rainbow) -> None:
        """Let `agent` begin with what was learned here: its features extractor and hidden layers, in both its networks.

        The last layer stays as it is: it says what returns to expect, which the clone does not know. The agent may have its
        encoder in the environment and the clone in the policy, or the other way round.

        Raises:
            InputError: When the features extractors, hidden layers or encoders are not the same; nothing is changed then.
        """
        initialize(agent, self)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
