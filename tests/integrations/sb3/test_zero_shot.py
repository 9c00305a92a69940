"""Playing with what pre-training has learnt: real games, runs of a few steps, and DT's tokens by a slow loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnvWrapper
from torch import Tensor

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.games import find_game
from pretrainrl.integrations.sb3 import AtariVecEnv, DecisionTransformerPolicy, VecRewardObservation, ZeroShotPolicy
from pretrainrl.objectives.dt import DT
from pretrainrl.pretraining import PretrainConfig, run
from pretrainrl.pretraining.trained import load_objective

pytestmark = pytest.mark.usefixtures("_one_thread")
PLAYERS = ("bc", "cql_m", "cql_d", "dt")
BREAKOUT, CARNIVAL = Discrete(4), Discrete(6)


@pytest.fixture(scope="module")
def _one_thread():
    """Batches of two gain nothing from a second thread and wait long for it on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Run folder of each objective, after a few steps."""
    folder = tmp_path_factory.mktemp("runs")
    episodes = [*collect_episodes("carnival", 60, n_envs=2), *collect_episodes("breakout", 60, n_envs=2)]
    cache = FrameCache.build(episodes, folder / "frames")

    def train(objective: str) -> Path:
        if not (folder / objective).exists():
            config = PretrainConfig.of(
                objective, ("pretrainrl/atari/carnival-random-v0",), steps=3, batch_size=4, backbone="nature"
            )
            run(config, folder / objective, lambda: cache, device="cpu", progress=False)
        return folder / objective

    return train


def game(name: str = "breakout", **options: Any) -> AtariVecEnv:
    settings: dict[str, Any] = {"n_envs": 2, "seed": 0, "max_episode_steps": 25, "terminal_on_life_loss": False, **options}
    return AtariVecEnv(name, **settings)


@pytest.mark.parametrize("objective", PLAYERS)
@pytest.mark.parametrize("deterministic", [True, False])
def test_plays_a_real_game_under_evaluate_policy(objective: str, deterministic: bool, trained: Callable[[str], Path]):
    env = VecRewardObservation(game())
    policy = ZeroShotPolicy.load(trained(objective), "ALE/Breakout-v5", env.action_space, device="cpu")
    played: Any = evaluate_policy(policy, env, n_eval_episodes=3, deterministic=deterministic, return_episode_rewards=True)
    scores, lengths = played
    assert lengths == [25] * 3 and len(scores) == 3
    env.close()


@pytest.mark.parametrize("objective", ["bc", "cql_m", "cql_d"])
def test_needs_no_rewards_but_for_dt(objective: str, trained: Callable[[str], Path]):
    env = game()
    frames = env.reset()
    policy: Any = ZeroShotPolicy.load(trained(objective), "breakout", env.action_space, device="cpu")
    actions, state = policy.predict(frames, deterministic=True)
    wrapped, _ = policy.predict({"frames": frames, "reward": np.zeros((2, 1))}, deterministic=True)
    last, _ = policy.predict(frames.transpose(0, 2, 3, 1), deterministic=True)
    single, _ = policy.predict(frames[1], deterministic=True)
    assert state is None and actions.shape == (2,) and single.shape == ()
    assert np.array_equal(actions, wrapped) and np.array_equal(actions, last) and single == actions[1]
    by_hand = policy._objective.action_scores(torch.from_numpy(frames), torch.tensor([0, 0]))[:, :4].argmax(1)
    assert actions.tolist() == by_hand.tolist()
    env.close()


class Recorder(DecisionTransformerPolicy):
    """Writes down what it is shown, how it scores actions, and what it does."""

    def predict(self, observation: Any, *arguments: Any, **options: Any) -> Any:
        actions, state = super().predict(observation, *arguments, **options)
        shown = [array.copy() for array in (observation["frames"], observation["reward"][:, 0], options["episode_start"])]
        self.seen = [*getattr(self, "seen", []), (*shown, self.scores, actions)]
        return actions, state

    def _choose(self, scores: Tensor, deterministic: bool) -> Any:
        self.scores = scores.clone()
        return super()._choose(scores, deterministic)


class EndsOften(VecEnvWrapper):
    """Copy i says `done` after every 11 + 6 * i steps, while its game goes on, as with lost lives."""

    def reset(self) -> Any:
        self.steps = 0
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        self.steps += 1
        return observations, rewards, dones | (self.steps % (11 + 6 * np.arange(self.num_envs)) == 0), infos


@torch.no_grad()
def slow_scores(dt: DT, frames: list[Any], actions: list[int], returns: list[float], game: int) -> Tensor:
    """Scores after the last 8 of an episode's frames, all of it encoded anew."""
    games = torch.full((len(frames[-8:]),), game)
    states = dt.neck(dt.backbone(torch.from_numpy(np.stack(frames[-8:])).float() / 255), games)
    tokens = []
    for state, asked, action in zip(states, returns[-8:], [*actions, -1][-8:], strict=True):
        tokens += [dt.embed_return(torch.tensor([0.01 * asked])), state]
        if action >= 0:
            tokens.append(dt.embed_action(torch.tensor(action)))
    sequence = torch.stack([token + dt.positions[k] for k, token in enumerate(tokens)])
    scores: Tensor = dt.head(dt.transformer(sequence[None], causal=True)[:, -1], games[:1])[0]
    return scores


def test_dt_by_a_slow_loop_over_its_tokens(trained: Callable[[str], Path]):
    """Episodes end at different times in the copies, and last more than the 8 steps that are remembered."""
    env = VecRewardObservation(EndsOften(game("carnival", n_envs=3, max_episode_steps=50, clip_reward=False)))
    objective = load_objective(trained("dt"))
    dt = objective.objective
    assert isinstance(dt, DT)
    torch.nn.init.normal_(dt.embed_return.weight, std=30)  # so that a wrong return shows
    for parameter in dt.head.parameters():
        parameter.mul_(0.05)  # so that all actions are played
    policy = Recorder(objective, "carnival", env.action_space, target_return=40.0)
    evaluate_policy(policy, env, n_eval_episodes=3, deterministic=False)
    begun, rewards = 0, 0
    for copy in range(3):
        for frames, reward, start, scores, actions in policy.seen:
            if start[copy]:
                left = 40.0
                seen: list[Any] = []
                taken: list[int] = []
                returns: list[float] = []
                begun += 1
            else:
                left -= float(np.sign(reward[copy]))
                rewards += int(reward[copy] != 0)
            seen, returns = [*seen, frames[copy]], [*returns, left]
            expected = slow_scores(dt, seen, taken, returns, objective.games.index("carnival"))
            torch.testing.assert_close(scores[copy], expected, rtol=1e-4, atol=1e-4)
            assert actions[copy] < 6
            taken.append(int(actions[copy]))
    assert len(policy.seen) == 50 and begun == 5 + 3 + 3 and rewards > 0
    env.close()


def test_dt_plays_on_from_a_state_without_changing_it(trained: Callable[[str], Path]):
    env = VecRewardObservation(game())
    policy = ZeroShotPolicy.load(trained("dt"), "breakout", env.action_space, device="cpu")
    observation = env.reset()
    _, first = policy.predict(observation, deterministic=True)
    assert first is not None
    before = [part.copy() for part in first]
    for _ in range(10):
        _, second = policy.predict(observation, first, np.array([False, True]), deterministic=True)
    assert all(np.array_equal(part, kept) for part, kept in zip(first, before, strict=True))
    assert second is not None and second[3].tolist() == [2, 1]
    env.close()


def test_dt_aims_for_the_best_return_of_its_data_unless_told_otherwise(trained: Callable[[str], Path]):
    folder = trained("dt")
    best = dict(zip(load_objective(folder).games, load_objective(folder).best_returns, strict=True))
    policy = ZeroShotPolicy.load(folder, "carnival", CARNIVAL, device="cpu")
    assert isinstance(policy, DecisionTransformerPolicy) and policy.target_return == best["carnival"]
    policy = ZeroShotPolicy.load(folder, "carnival", CARNIVAL, device="cpu", target_return=7)
    assert isinstance(policy, DecisionTransformerPolicy) and policy.target_return == 7


def test_the_full_action_set_is_played_with_the_games_own_actions(trained: Callable[[str], Path]):
    env = game(full_action_space=True)
    minimal = find_game("breakout").minimal_actions
    assert minimal == (0, 1, 3, 4)
    narrow = ZeroShotPolicy.load(trained("bc"), "breakout", BREAKOUT, device="cpu")
    wide = ZeroShotPolicy.load(trained("bc"), "breakout", env.action_space, device="cpu")
    observation = env.reset()
    torch.manual_seed(0)
    first = [narrow.predict(observation)[0].tolist() for _ in range(20)]
    torch.manual_seed(0)
    second = [wide.predict(observation)[0].tolist() for _ in range(20)]
    assert [[minimal[i] for i in row] for row in first] == second
    assert env.get_action_meanings()[3] == "RIGHT" and game().get_action_meanings()[2] == "RIGHT"
    env.close()


def test_reward_observation_shows_the_last_reward():
    plain: Any = game("carnival", seed=1)
    env: Any = VecRewardObservation(game("carnival", seed=1))
    expected, observation = plain.reset(), env.reset()
    assert env.observation_space["frames"] == plain.observation_space
    assert np.array_equal(observation["frames"], expected) and not observation["reward"].any()
    total, actions = 0.0, np.random.default_rng(0).integers(6, size=(30, 2))
    for row in actions:
        frames, rewards, dones, infos = plain.step(row)
        observation, seen, _, wrapped = env.step(row)
        assert np.array_equal(observation["frames"], frames) and np.array_equal(seen, rewards)
        assert observation["reward"].tolist() == [[reward] for reward in rewards]
        assert env.observation_space.contains({key: value[0] for key, value in observation.items()})
        total += abs(rewards).sum()
        for i in np.flatnonzero(dones):
            final = wrapped[i]["terminal_observation"]
            assert np.array_equal(final["frames"], infos[i]["terminal_observation"]) and final["reward"] == rewards[i]
    assert total > 0
    plain.close()
    env.close()


def test_what_cannot_play(trained: Callable[[str], Path], tmp_path: Path):
    load = ZeroShotPolicy.load
    with pytest.raises(UnknownNameError, match="unknown game of this bc run 'pong'"):
        load(trained("bc"), "pong", Discrete(6))
    with pytest.raises(InputError, match="breakout is played with 4 actions, or all 18, not in Discrete"):
        load(trained("bc"), "breakout", Discrete(6))
    with pytest.raises(InputError, match=r"not in Discrete\(4, start=1\)"):
        load(trained("bc"), "breakout", Discrete(4, start=1))
    with pytest.raises(InputError, match="or all 18, not in Box"):
        load(trained("bc"), "breakout", Box(0, 1, (2,)))
    with pytest.raises(InputError, match="curl has learned no actions"):
        load(trained("curl"), "breakout", BREAKOUT)
    with pytest.raises(InputError, match="target_return is for dt"):
        load(trained("bc"), "breakout", BREAKOUT, target_return=1.0)
    with pytest.raises(InputError, match="holds no finished pre-training run"):
        load(tmp_path, "breakout", BREAKOUT)
    frames = np.zeros((1, 4, 84, 84), np.uint8)
    with pytest.raises(InputError, match="wrap the environment in VecRewardObservation"):
        load(trained("dt"), "breakout", BREAKOUT).predict(frames)
    bads: list[Any] = [frames.astype(np.float32), frames[..., :80], frames[0, 0]]
    for bad in bads:
        with pytest.raises(InputError, match="expected frames"):
            load(trained("bc"), "breakout", BREAKOUT).predict(bad)
