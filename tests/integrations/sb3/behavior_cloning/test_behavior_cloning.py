"""BehaviorCloning learns what was done, through an encoder that sees each observation once, and agents go on from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clones import cut, log_of, stacks
from gymnasium.spaces import Box, Discrete
from sb3_agents import other_weights, same, weights
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy

from pretrainrl import make_encoder
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.integrations.minari import AtariDataset, collect_dataset, open_dataset, write_dataset
from pretrainrl.integrations.sb3 import (
    AtariVecEnv,
    BehaviorCloning,
    Rainbow,
    VecEncodeObservation,
    neck_policy_kwargs,
    policy_kwargs,
)

DATASET = "pretrainrl/atari/pong-short-v0"
BOXING = "pretrainrl/atari/boxing-random-v0"  # where every frame differs, so that what was done can be learnt by heart
ENCODER = "random.nature"
STEPS = 96
COMPARED = 8  # observations that are encoded again, to see whether the code is what it was


@pytest.fixture(scope="module", autouse=True)
def _datasets(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Pong, in several short episodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("datasets")))
        collect_dataset("boxing", 64, n_envs=1)
        whole = list(open_dataset(collect_dataset("pong", STEPS, n_envs=1).id))
        write_dataset(DATASET, [part for episode in whole for part in cut(episode, 24)])
        yield


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))


def in_policy(neck: Any = "mlp", env: Any = None, **arguments: Any) -> BehaviorCloning:
    """The encoder is in the policy."""
    kwargs = policy_kwargs(ENCODER, neck=neck, features_dim=64)
    settings: dict[str, Any] = {
        "batch_size": 32,
        "n_epochs": 2,
        "seed": 0,
        "device": "cpu",
        "policy_kwargs": kwargs,
        **arguments,
    }
    return BehaviorCloning("CnnPolicy", AtariVecEnv("pong", 2, seed=0) if env is None else env, **settings)


def encoded_env(features: Any = None, game: str = "pong", **arguments: Any) -> VecEncodeObservation:
    return VecEncodeObservation(AtariVecEnv(game, 2, seed=0), ENCODER, features=features, dtype="float32", **arguments)


def in_front(features: Any = None, env: Any = None, **arguments: Any) -> BehaviorCloning:
    """The encoder is in the environment."""
    settings: dict[str, Any] = {"batch_size": 32, "n_epochs": 2, "seed": 0, "device": "cpu", **arguments}
    return BehaviorCloning(
        "MlpPolicy", env or encoded_env(features), policy_kwargs=neck_policy_kwargs(features_dim=64), **settings
    )


# --- the features


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (in_policy, (3136,)),
        (lambda: in_policy("spatial_mlp"), (64, 7, 7)),
        (lambda: in_front("pooled"), (64,)),
        (lambda: in_front("map"), (64, 7, 7)),
    ],
    ids=["policy", "policy-map", "front-pooled", "front-map"],
)
def test_every_observation_is_encoded_once(make: Callable[[], Any], shape: tuple[int, ...], batches: list[int]) -> None:
    make().learn(DATASET)
    assert sum(batches) == STEPS
    make().learn(DATASET)
    assert sum(batches) == STEPS + COMPARED, "the second run finds them on the disk"
    observations, actions = stacks(DATASET)
    encoder = make_encoder(ENCODER, features="pooled" if shape == (64,) else None)
    expected = encoder.feature_map(observations) if len(shape) == 3 else encoder(observations)
    shown = open_shown(make())
    assert shown.encoded and shown.read(torch.arange(STEPS))[0].dtype == torch.float16
    features, labels = shown.read(torch.arange(STEPS))
    assert features.shape == (STEPS, *shape)
    assert torch.allclose(features.float(), expected, atol=1e-3, rtol=1e-3)
    assert labels.tolist() == actions.tolist()


def open_shown(model: BehaviorCloning, pixels: bool = False) -> Any:
    from pretrainrl.integrations.sb3.behavior_cloning.demonstrations import open_demonstrations

    return open_demonstrations(model, open_dataset(DATASET), pixels=pixels, progress=False)


def test_encoder_in_front_and_in_the_policy_share_features(batches: list[int]) -> None:
    in_front("map").learn(DATASET)
    in_policy("spatial_mlp").learn(DATASET)
    assert sum(batches) == STEPS + COMPARED


def test_pixels_are_the_observations() -> None:
    observations, actions = stacks(DATASET)
    shown = open_shown(in_policy(), pixels=True)
    frames, labels = shown.read(torch.arange(STEPS))
    assert not shown.encoded
    assert np.array_equal(frames.numpy(), observations) and labels.tolist() == actions.tolist()


def test_chosen_episodes() -> None:
    dataset = open_dataset(DATASET)
    chosen = AtariDataset(dataset.minari.filter_episodes(lambda episode: episode.id in (1, 3)))
    model = in_policy(n_epochs=1, batch_size=1000)
    model.learn(chosen)
    assert model.num_timesteps == 48
    from pretrainrl.integrations.sb3.behavior_cloning.demonstrations import open_demonstrations

    shown = open_demonstrations(model, chosen, pixels=False, progress=False)
    numbers = torch.cat([*range_of(1), *range_of(3)])
    assert torch.cat(shown.episodes).tolist() == numbers.tolist()


def range_of(episode: int) -> tuple[torch.Tensor]:
    return (torch.arange(24 * episode, 24 * episode + 24),)


# --- learning


@pytest.mark.parametrize("front", [False, True])
def test_learns_a_small_dataset_by_heart(front: bool) -> None:
    env = encoded_env(game="boxing") if front else AtariVecEnv("boxing", 2)
    model = (in_front if front else in_policy)(env=env, n_epochs=60, learning_rate=5e-3, max_grad_norm=None)
    rows = log_of(model)
    model.learn(BOXING)
    assert rows[0]["train/accuracy"] < 0.5 < 0.9 < rows[-1]["train/accuracy"]
    observations, actions = stacks(BOXING)
    obs = env.encode(observations) if isinstance(env, VecEncodeObservation) else observations
    assert (model.predict(obs, deterministic=True)[0] == actions).mean() > 0.9


def test_actions_are_drawn_from_the_policy() -> None:
    model = in_policy()
    obs = np.repeat(stacks(DATASET)[0][:1], 400, axis=0)
    expected = torch.softmax(model.policy.logits(torch.from_numpy(obs[:1])), dim=1)[0].tolist()
    drawn = np.bincount(model.predict(obs)[0], minlength=6) / len(obs)
    assert np.allclose(drawn, expected, atol=0.1)
    assert len(set(model.predict(obs, deterministic=True)[0].tolist())) == 1


def test_equal_seeds_learn_the_same() -> None:
    first, again, other = (in_policy(seed=seed, augment=augment).learn(DATASET) for seed, augment in [(3, 1), (3, 1), (4, 1)])
    assert same(weights(first.policy), weights(again.policy))
    assert not same(weights(first.policy), weights(other.policy))


def test_the_studys_setting_looks_at_augmented_frames(batches: list[int]) -> None:
    arguments: dict[str, Any] = {**BehaviorCloning.atari_pb(), "n_epochs": 2, "batch_size": STEPS}
    model = in_policy("spatial_mlp", **arguments)
    rows = log_of(model)
    model.learn(DATASET)
    assert batches == [STEPS, STEPS], "augmented frames are encoded at every update, nothing is cached"
    assert model._n_updates == 2 and [row["step"] for row in rows] == [STEPS, 2 * STEPS]
    [group] = model.policy.optimizer.param_groups
    assert isinstance(model.policy.optimizer, torch.optim.AdamW) and group["weight_decay"] == 1e-4
    rates = [model.lr_schedule(1 - share) for share in (0, 0.05, 0.1, 0.55, 1)]
    assert rates == pytest.approx([1e-4, 5.5e-4, 1e-3, 5.5e-4, 1e-4])
    model.learn(DATASET)
    seen = [row["train/learning_rate"] for row in rows]
    assert seen[:2] == seen[2:] == [model.lr_schedule(1), model.lr_schedule(0.5)], "each run has its own warm-up"


def test_trains_without_an_encoder() -> None:
    model = BehaviorCloning("CnnPolicy", AtariVecEnv("pong", 1), batch_size=48, n_epochs=1, seed=0, device="cpu")
    before = weights(model.policy)
    model.learn(DATASET)
    assert not same(before, weights(model.policy))


def test_validation_is_on_whole_episodes_and_log_goes_on() -> None:
    model = in_policy(validation_fraction=0.25, n_epochs=2)
    rows = log_of(model)
    model.learn(DATASET)
    assert model.num_timesteps == 2 * 64, "72 are left, in batches of 32"
    assert all(0 <= row["validation/accuracy"] <= 1 and row["validation/loss"] > 0 for row in rows)
    model.learn(DATASET, reset_num_timesteps=False)
    assert [row["time/epoch"] for row in rows] == [1, 2, 3, 4] and rows[-1]["step"] == 4 * 64
    train, validation = open_shown(model).split(0.25, seed=0)
    numbers = [set(torch.cat(part.episodes).tolist()) for part in (train, validation)]
    assert not numbers[0] & numbers[1] and len(numbers[1]) == 24


def test_callbacks() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 3

    model = in_policy()
    assert model.learn(DATASET, callback=Stop())._n_updates == 3
    env = AtariVecEnv("pong", 2, seed=1, max_episode_steps=8)
    evaluation = EvalCallback(env, n_eval_episodes=2, eval_freq=3, verbose=0)
    model.learn(DATASET, callback=evaluation)
    assert np.isfinite(evaluation.last_mean_reward)


# --- the agent afterwards


@pytest.mark.parametrize("make", [in_policy, lambda: in_front("map")], ids=["policy", "front"])
def test_save_and_load(make: Callable[..., Any], tmp_path: Path) -> None:
    model = make().learn(DATASET)
    model.save(tmp_path / "clone")
    obs = np.stack([model.observation_space.sample() for _ in range(6)])
    loaded = BehaviorCloning.load(tmp_path / "clone", device="cpu")
    assert same(weights(model.policy), weights(loaded.policy))
    assert np.array_equal(model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0])
    assert (loaded.n_epochs, loaded.num_timesteps) == (2, 2 * STEPS)
    loaded.set_env(model.get_env())
    mean, _ = evaluate_policy(loaded, short(model), n_eval_episodes=2, warn=False)
    assert np.isfinite(mean)
    loaded.learn(DATASET, reset_num_timesteps=False)
    assert loaded.num_timesteps == 4 * STEPS


def short(model: BaseAlgorithm) -> Any:
    env = AtariVecEnv("pong", 1, seed=1, max_episode_steps=8)
    wrapped = isinstance(model.get_env(), VecEncodeObservation)
    return VecEncodeObservation(env, ENCODER, features="map", dtype="float32") if wrapped else env


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    in_front("map").learn(DATASET).save(tmp_path / "clone")
    other = encoded_env("map", weights=other_weights(tmp_path))
    with pytest.raises(ValueError, match=r"spaces do not match: .*random.nature, sha256 .* != .*random.nature, sha256"):
        BehaviorCloning.load(tmp_path / "clone", env=other, device="cpu")


@pytest.mark.parametrize(("front", "dueling"), [(False, False), (True, True)])
def test_a_rainbow_run_begins_with_it(front: bool, dueling: bool) -> None:
    extractor = policy_kwargs(ENCODER, features_dim=64, net_arch=[16])
    clone = in_policy(policy_kwargs=extractor)
    clone.learn(DATASET)
    settings: dict[str, Any] = {
        "buffer_size": 100,
        "learning_starts": 8,
        "batch_size": 4,
        "train_freq": 1,
        "seed": 1,
        "device": "cpu",
    }
    if front:
        kwargs = neck_policy_kwargs(features_dim=64, net_arch=[16])
        agent = Rainbow("MlpPolicy", encoded_env("flat"), policy_kwargs=kwargs, dueling=dueling, **settings)
    else:
        agent = Rainbow("CnnPolicy", AtariVecEnv("pong", 1), policy_kwargs=extractor, dueling=dueling, **settings)
    last = weights(agent.q_net.head.advantage[-1])
    clone.initialize(agent)
    ours: Any = clone.policy.q_net
    for net in (agent.q_net, agent.q_net_target):
        assert same(weights(net.features_extractor), weights(ours.features_extractor))
        streams: list[Any] = [net.head.advantage, *([net.head.value] if dueling else [])]
        for stream in streams:
            assert torch.equal(stream[0].weight, ours.head.advantage[0].weight)
            assert torch.equal(stream[0].bias, ours.head.advantage[0].bias)
    assert same(weights(agent.q_net.head.advantage[-1]), last)
    trunk = weights(agent.q_net)
    agent.learn(16)
    assert agent._n_updates > 0 and not same(trunk, weights(agent.q_net))


def test_a_rainbow_of_another_shape_is_refused(tmp_path: Path) -> None:
    clone = in_policy()
    env = AtariVecEnv("pong", 1)
    for kwargs, reason in [
        (
            policy_kwargs(ENCODER, features_dim=32),
            r"neck\.1\.weight has shape \(64, 3136\) in the clone's .* give both the same",
        ),
        (policy_kwargs(ENCODER, features_dim=64, net_arch=[8]), "clone has 0 hidden layers in net_arch, the agent 1"),
        (policy_kwargs(ENCODER, features_dim=64, weights=other_weights(tmp_path)), "give both the same encoder"),
    ]:
        agent = Rainbow("CnnPolicy", env, policy_kwargs=kwargs, buffer_size=20, device="cpu")
        before = weights(agent.q_net)
        with pytest.raises(InputError, match=reason):
            clone.initialize(agent)
        assert same(before, weights(agent.q_net))


def test_without_environment() -> None:
    spaces: dict[str, Any] = {"observation_space": Box(0, 255, (4, 84, 84), np.uint8), "action_space": Discrete(6)}
    settings: dict[str, Any] = {"policy_kwargs": policy_kwargs(ENCODER, features_dim=16), "device": "cpu", "n_epochs": 1}
    model = BehaviorCloning("CnnPolicy", **spaces, **settings).learn(DATASET)
    env = AtariVecEnv("pong", 3, max_episode_steps=8)
    model.set_env(env)
    assert model.predict(env.reset())[0].shape == (3,)


# --- what does not fit


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="needs an env, or observation_space and action_space"):
        BehaviorCloning("CnnPolicy", action_space=Discrete(6))
    with pytest.raises(InputError, match=r"needs Discrete actions .*, got Box"):
        BehaviorCloning("MlpPolicy", observation_space=Box(0, 1, (3,)), action_space=Box(0, 1, (3,)))
    with pytest.raises(InputError, match=r"validation_fraction must be in \[0, 1\), got 1"):
        in_policy(validation_fraction=1)
    with pytest.raises(InputError, match="batch_size and n_epochs must be positive, got 32 and 0"):
        in_policy(n_epochs=0)


def test_dataset_that_does_not_fit() -> None:
    with pytest.raises(InputError, match="the environment is breakout, but pretrainrl/atari/pong-short-v0 is of pong"):
        in_policy(env=AtariVecEnv("breakout", 1)).learn(DATASET)
    with pytest.raises(InputError, match=r"actions are Discrete\(18\), those of .* are Discrete\(6\)"):
        in_policy(env=AtariVecEnv("pong", 1, full_action_space=True)).learn(DATASET)
    spaces: dict[str, Any] = {"observation_space": Box(-1, 1, (12,)), "action_space": Discrete(6)}
    with pytest.raises(InputError, match="observations are Box"):
        BehaviorCloning("MlpPolicy", **spaces, device="cpu").learn(DATASET)
    with pytest.raises(InputError, match="VecEncodeObservation has encoded them"):
        in_front(augment=True).learn(DATASET)
    viewed = VecEncodeObservation(AtariVecEnv("pong", 1), ENCODER, views=2)
    with pytest.raises(InputError, match="without views: leave out"):
        in_front(env=viewed).learn(DATASET)
    with pytest.raises(InputError, match=r"validation_fraction=0.9 leaves nothing to learn of 4 episodes"):
        in_policy(validation_fraction=0.9).learn(DATASET)
    with pytest.raises(DatasetError, match=f"did you mean {DATASET}"):
        in_policy().learn("pretrainrl/atari/pong-shot-v0")
