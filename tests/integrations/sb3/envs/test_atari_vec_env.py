"""AtariVecEnv against a plain ALE loop, and inside Stable-Baselines3's own tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import ale_py
import numpy as np
import pytest
from ale_py import roms
from numpy.typing import NDArray
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import VecMonitor

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.integrations.sb3 import AtariVecEnv
from pretrainrl.integrations.sb3.envs.atari_vec_env import RecordedAtariVecEnv

cv2 = pytest.importorskip("cv2", reason="the reference preprocessing resizes with OpenCV")


class RawStep(NamedTuple):
    """What a plain ALE loop saw in one agent step."""

    observation: NDArray[np.uint8]
    points: int
    lives: int
    over: bool


class RawGame:
    """The preprocessing written out: 4 frames, grey, maximum of the last two, area resize, stack of 4 from zeros."""

    def __init__(self, rom: str, seed: int, sticky: float) -> None:
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", sticky)
        self.ale.setInt("random_seed", seed)
        path = roms.get_rom_path(rom)
        assert path
        self.ale.loadROM(path)
        self.actions = self.ale.getMinimalActionSet()
        self.reset()

    def reset(self) -> None:
        self.ale.reset_game()
        self.stack = np.zeros((4, 84, 84), np.uint8)
        self._push(self.ale.getScreenGrayscale())

    def _push(self, frame: NDArray[np.uint8]) -> None:
        small = cv2.resize(frame, (84, 84), interpolation=cv2.INTER_AREA)
        self.stack = np.concatenate([self.stack[1:], small[None]])

    def step(self, action: int) -> RawStep:
        points, frames = 0, []
        for _ in range(4):
            points += self.ale.act(self.actions[action])
            frames.append(self.ale.getScreenGrayscale())
            if self.ale.game_over():
                break
        self._push(np.maximum(frames[-1], frames[-2]) if len(frames) > 1 else frames[-1])
        return RawStep(self.stack, points, self.ale.lives(), self.ale.game_over())


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_frames_rewards_and_scores_equal_a_plain_ale_loop(sticky: float) -> None:
    seeds = [7, 8]
    env: Any = AtariVecEnv("breakout", 2, seed=7, noop_max=1, action_repeat_probability=sticky)
    games = [RawGame("breakout", seed, sticky) for seed in seeds]
    assert np.array_equal(env.reset(), [game.stack for game in games])

    rng = np.random.default_rng(0)
    scores, lengths, lives = np.zeros(2), np.zeros(2), np.full(2, 5)
    finished = life_losses = 0
    while finished < 3:
        actions = rng.integers(0, 4, 2)
        observations, rewards, dones, infos = env.step(actions)
        for i, game in enumerate(games):
            truth = game.step(int(actions[i]))
            scores[i] += truth.points
            lengths[i] += 1
            lost = truth.lives < lives[i]
            lives[i] = truth.lives
            assert rewards[i] == np.sign(truth.points)
            assert dones[i] == (truth.over or lost)
            assert not infos[i]["TimeLimit.truncated"]
            if truth.over:
                # ALE leaves the frame in which a game ends undefined, the three before it are the game's.
                assert np.array_equal(infos[i]["terminal_observation"][:3], truth.observation[:3])
                assert infos[i]["episode"].items() >= {"r": scores[i], "l": lengths[i]}.items()
                game.reset()
                scores[i], lengths[i], lives[i] = 0, 0, 5
                finished += 1
                assert np.array_equal(observations[i], game.stack)
                continue
            assert np.array_equal(observations[i], truth.observation)
            assert "episode" not in infos[i]
            assert infos[i]["lives"] == truth.lives
            if lost:
                life_losses += 1
                assert np.array_equal(infos[i]["terminal_observation"], truth.observation)
            else:
                assert "terminal_observation" not in infos[i]
    assert life_losses >= 8


def test_spaces_and_spec() -> None:
    env = AtariVecEnv("MsPacmanNoFrameskip-v4", 2)
    assert env.spec.id == "ALE/MsPacman-v5"
    assert env.get_attr("spec")[1].kwargs["repeat_action_probability"] == 0.25
    assert env.observation_space.shape == (4, 84, 84)
    assert env.reset().shape == (2, 4, 84, 84)
    assert env.reset_infos == [{"lives": 3}, {"lives": 3}]
    assert env.action_space.n == 9
    assert AtariVecEnv("mspacman", 1, full_action_space=True).action_space.n == 18
    assert AtariVecEnv("mspacman", 1, frame_stack=1).reset().shape == (1, 1, 84, 84)


def rollout(env: Any, steps: int = 60) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Last observations and all rewards when every copy plays the same actions."""
    rng = np.random.default_rng(0)
    env.reset()
    rewards = []
    for _ in range(steps):
        observations, reward, _, _ = env.step(np.full(env.num_envs, rng.integers(env.action_space.n)))
        rewards.append(reward)
    return observations, np.stack(rewards)


def test_seeds_reproduce_and_differ_between_copies() -> None:
    first, same, other = (rollout(AtariVecEnv("pong", 3, seed=seed)) for seed in (5, 5, 6))
    assert np.array_equal(first[0], same[0]) and np.array_equal(first[1], same[1])
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(first[0][1:], other[0][:2]), "copy i has seed + i"
    assert len({frames.tobytes() for frames in first[0]}) == 3


def test_seeds_of_sb3_are_unsigned_and_apply_once() -> None:
    env = AtariVecEnv("pong", 2)
    env.seed(2**32 - 3)  # SB3 draws up to 2**32, ALE takes up to 2**31
    first = env.reset()
    assert not np.array_equal(first, env.reset()), "a second reset without seed() goes on with the generator"
    env.seed(2**32 - 3)
    assert np.array_equal(first, env.reset())


def test_unseeded_environments_follow_numpy_as_make_atari_env_does() -> None:
    np.random.seed(3)
    first = rollout(AtariVecEnv("pong", 2))[0]
    np.random.seed(3)
    assert np.array_equal(first, rollout(AtariVecEnv("pong", 2))[0])


def test_time_limit_is_a_truncation_with_the_last_observation() -> None:
    env: Any = AtariVecEnv("pong", 2, max_episode_steps=20, seed=0)
    before = env.reset()
    for step in range(1, 21):
        observations, _, dones, infos = env.step(np.zeros(2, np.int64))
        if step < 20:
            before = observations
            assert not dones.any()
    assert dones.all()
    for i, info in enumerate(infos):
        assert info["TimeLimit.truncated"]
        assert info["episode"]["l"] == 20
        assert np.array_equal(info["terminal_observation"][:3], before[i, 1:])
        assert not observations[i, :3].any(), "the next game's stack starts with zero frames"


def test_life_loss_may_be_ignored_and_rewards_kept_raw() -> None:
    env = AtariVecEnv("breakout", 2, seed=7, noop_max=1, terminal_on_life_loss=False, clip_reward=False)
    game = RawGame("breakout", 7, 0.25)
    env.reset()
    rng = np.random.default_rng(0)
    while True:
        actions = rng.integers(0, 4, 2)
        _, rewards, dones, infos = env.step(actions)
        truth = game.step(int(actions[0]))
        assert rewards[0] == truth.points
        assert dones[0] == truth.over == ("episode" in infos[0])
        if truth.over:
            return


class RandomModel:
    """What `evaluate_policy` needs of an algorithm."""

    def __init__(self, env: AtariVecEnv) -> None:
        self.rng = np.random.default_rng(0)
        self.n = env.action_space.n

    def predict(self, observation: Any, *_: Any, **__: Any) -> tuple[NDArray[np.int64], None]:
        return self.rng.integers(0, self.n, len(observation)), None


def test_evaluate_policy_reports_raw_scores_of_whole_games(recwarn: pytest.WarningsRecorder) -> None:
    env = AtariVecEnv("qbert", 2, seed=0)  # points come by 25 and more, lives are four
    assert env.env_is_wrapped(Monitor) == [True, True]
    found: Any = evaluate_policy(RandomModel(env), env, n_eval_episodes=4, return_episode_rewards=True)
    scores, lengths = found
    assert len(scores) == 4 and max(scores) >= 25 and all(score % 25 == 0 for score in scores)
    assert min(lengths) > 100
    assert not [warning for warning in recwarn if "Monitor" in str(warning.message)]


def test_vec_monitor_would_count_clipped_rewards_of_single_lives() -> None:
    """The naive way fails, which is why the score is kept inside."""
    env = VecMonitor(AtariVecEnv("qbert", 1, seed=0))
    env.reset()
    rng = np.random.default_rng(0)
    while True:
        _, _, dones, infos = env.step(rng.integers(0, 6, 1))
        if dones[0]:
            assert infos[0]["episode"]["r"] < 25 and infos[0]["lives"] > 0
            return


def test_learns_with_sb3_callbacks(tmp_path: Any) -> None:
    env, eval_env = AtariVecEnv("breakout", 2, seed=0), AtariVecEnv("breakout", 2, seed=9, max_episode_steps=40)
    callbacks = [
        CheckpointCallback(20, str(tmp_path)),
        EvalCallback(eval_env, eval_freq=20, n_eval_episodes=2, best_model_save_path=str(tmp_path), verbose=0),
    ]
    model = DQN(
        "MlpPolicy", env, buffer_size=200, learning_starts=10, batch_size=4, train_freq=16, policy_kwargs={"net_arch": [4]}
    )
    model.learn(60, callback=callbacks)
    assert (tmp_path / "best_model.zip").exists() and len(list(tmp_path.glob("rl_model_*.zip"))) == 1
    loaded = DQN.load(tmp_path / "best_model.zip", env=env)
    assert loaded.predict(env.reset())[0].shape == (2,)


TINY = {"net_arch": [4], "ortho_init": False}


def test_a_seeded_algorithm_repeats_itself() -> None:
    runs = []
    for _ in range(2):
        env = AtariVecEnv("pong", 2)
        model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=1, policy_kwargs=TINY).learn(32)
        runs.append(model.rollout_buffer.observations.copy())
    assert np.array_equal(*runs)


def test_observations_are_not_overwritten_by_later_steps() -> None:
    env: Any = AtariVecEnv("pong", 2, seed=0)
    observations = [env.reset()] + [env.step(np.zeros(2, np.int64))[0] for _ in range(5)]
    copies = [array.copy() for array in observations]
    for _ in range(5):
        env.step(np.zeros(2, np.int64))
    assert all(map(np.array_equal, observations, copies))


def test_render_tiles_the_newest_frames() -> None:
    env: Any = AtariVecEnv("pong", 4, seed=0)
    env.reset()
    assert env.render_mode == "rgb_array"
    observations, *_ = env.step(np.zeros(4, np.int64))
    picture = env.render()
    assert picture.shape == (168, 168, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture[84:, 84:, 0], observations[3, -1])


@pytest.mark.parametrize("make", [AtariVecEnv, RecordedAtariVecEnv])
def test_before_the_first_reset_the_screen_is_black(make: Any) -> None:
    env = make("pong", 2, seed=0)
    assert not env.render().any() and env.render().shape == (168, 84, 3)
    with pytest.raises(InputError, match=r"reset\(\) comes before the first step"):
        env.step(np.zeros(2, np.int64))
    env.reset()
    assert env.render().any()


def test_monitor_file_of_whole_games(tmp_path: Path) -> None:
    """Every game is a row, as `info["episode"]` has it, although lives end episodes and rewards are clipped."""
    env = AtariVecEnv("qbert", 2, seed=0, monitor=tmp_path)
    env.reset()
    games: list[dict[str, float]] = []
    rng, lives = np.random.default_rng(0), 0
    while len(games) < 3:
        _, _, dones, infos = env.step(rng.integers(0, 6, 2))
        lives += int(dones.sum())
        games += [info["episode"] for info in infos if "episode" in info]
    env.close()
    table = load_results(str(tmp_path))
    assert lives > len(games)
    assert [*zip(table["r"], table["l"], strict=True)] == [(game["r"], game["l"]) for game in games]
    assert '"env_id": "ALE/Qbert-v5"' in (tmp_path / "monitor.csv").read_text()


def test_monitor_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write the monitor file .*file/here"):
        AtariVecEnv("pong", 1, monitor=tmp_path / "file" / "here")


def test_attributes_and_methods_of_the_copies() -> None:
    env = AtariVecEnv("breakout", 3)
    assert env.get_attr("game", indices=[0, 2])[1].slug == "breakout"
    assert env.has_attr("clip_reward") and not env.has_attr("action_masks")
    assert env.env_method("get_action_meanings", indices=1) == [["NOOP", "FIRE", "RIGHT", "LEFT"]]
    env.set_attr("clip_reward", False)
    assert env.get_attr("clip_reward") == [False] * 3
    with pytest.raises(NotImplementedError, match="share"):
        env.set_attr("clip_reward", True, indices=0)
    with pytest.raises(NotImplementedError, match="render"):
        env.env_method("render")
    env.close()
    env.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_envs": 0}, "n_envs must be at least 1"),
        ({"action_repeat_probability": 1.5}, r"must be in \[0, 1\]"),
        ({"frame_skip": 0}, "frame_skip"),
        ({"noop_max": -1}, "noop_max"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AtariVecEnv("pong", **arguments)


def test_unknown_game_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="breakout"):
        AtariVecEnv("breakuot")


@pytest.mark.parametrize("actions", [[0], [0, 6], [0, -1], [0.0, 1.0]])
def test_bad_actions_are_refused_where_ale_would_hang(actions: list[float]) -> None:
    env = AtariVecEnv("pong", 2)
    env.reset()
    with pytest.raises(InputError, match="actions"):
        env.step(np.array(actions))
