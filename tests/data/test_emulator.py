"""Games that are played as told: no chance of their own, and the frames of ALE's vector environment."""

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode

from pretrainrl.data.emulator import AtariGames, Emulator, StickyGame
from pretrainrl.games import find_game


@pytest.mark.parametrize("game", ["breakout", "klax", "qbert"])  # Klax has a taller screen
def test_frames_are_those_of_the_vector_environment(game: str) -> None:
    games = AtariGames(find_game(game), 2, sticky_actions=0.0, noop_max=1)
    vector = AtariVectorEnv(
        find_game(game).rom,
        2,
        noop_max=1,
        repeat_action_probability=0.0,
        reward_clipping=False,
        use_fire_reset=False,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    mine, theirs = games.reset(np.arange(2))[0], vector.reset(seed=np.arange(2))[0]
    rng = np.random.default_rng(0)
    for _ in range(150):
        assert np.array_equal(mine, theirs)
        actions = rng.integers(int(games.single_action_space.n), size=2)
        games.send(actions)
        mine, rewards, terminated, truncated, info = games.recv()
        theirs, *expected, their_info = vector.step(actions)
        for found, wanted in zip((rewards, terminated, truncated), expected, strict=True):
            assert np.array_equal(found, wanted)
        assert np.array_equal(info["lives"], their_info["lives"])


@pytest.mark.parametrize("game", ["freeway", "demonattack", "qbert", "surround", "tetris"])
def test_a_game_does_not_depend_on_what_was_played_before(game: str) -> None:
    """These are the games in which ALE's reset leaves traces, or a restored state shows the old screen."""

    def play(emulator: Emulator) -> list[bytes]:
        rng = np.random.default_rng(1)
        shown = [emulator.restart(3).tobytes()]
        for _ in range(60):
            frame, points, over = emulator.step(int(rng.integers(emulator.num_actions)), int(rng.integers(5)))
            shown.append(frame.tobytes() + emulator.ram.tobytes() + str((points, over, emulator.lives)).encode())
        return shown

    used, new = Emulator(find_game(game)), Emulator(find_game(game))
    for noops in (0, 7):
        used.restart(noops)
        for step in range(90):
            used.step(step % used.num_actions, 0)
    assert play(used) == play(new)


def test_a_late_action_lets_the_one_before_go_on() -> None:
    """Freeway's chicken moves up by pressing UP: the later it is pressed, the less far."""
    emulator = Emulator(find_game("freeway"))
    heights = []
    for delay in range(5):
        emulator.restart(0)
        emulator.step(1, delay)
        heights.append(int(emulator.ram[14]))
    assert heights == sorted(heights, reverse=True)
    assert heights[0] > heights[3] >= heights[4]


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_sticky_actions_are_as_sticky_as_asked(probability: float) -> None:
    game = StickyGame(find_game("pong"), sticky_actions=probability)
    game.seed(0)
    game.restart()
    delays = []
    for step in range(400):
        played_already = game.emulator.is_played(step % 2)
        game.step(step % 2)
        if played_already:
            assert game.delay == 0
        else:
            delays.append(game.delay)
    assert np.mean(np.array(delays) > 0) == pytest.approx(probability, abs=0.08)
    assert np.mean(np.array(delays) > 1) == pytest.approx(probability**2, abs=0.08)


def test_the_same_seed_gives_the_same_chance() -> None:
    games = [StickyGame(find_game("pong")) for _ in range(2)]
    for game in games:
        game.seed(5)
    for _ in range(4):
        first, second = (game.restart() for game in games)
        assert np.array_equal(first, second)
        assert games[0].noops == games[1].noops
    assert len({(games[0].restart().tobytes(), games[0].noops) for _ in range(20)}) > 5


def test_a_game_that_is_over_begins_anew_in_the_same_step() -> None:
    games = AtariGames(find_game("breakout"), 2)
    games.reset(np.array([1, 2]))
    for step in range(1000):
        before = games.noops.copy()
        games.send(np.array([step % 4, 1]))
        observations, _, terminated, truncated, info = games.recv()
        assert not truncated.any()
        if terminated.any():
            break
        assert np.array_equal(before, games.noops)
    (env,) = np.flatnonzero(terminated)[:1]
    assert not observations[env, :-1].any() and observations[env, -1].any()
    assert info["final_obs"][env].any(axis=(1, 2)).all()
    assert info["lives"][env] == 5


def test_time_is_limited() -> None:
    games = AtariGames(find_game("pong"), 1, max_episode_steps=3)
    games.reset(np.array([0]))
    ends = []
    for _ in range(6):
        games.send(np.array([0]))
        _, _, terminated, truncated, _ = games.recv()
        ends.append((bool(terminated[0]), bool(truncated[0])))
    assert ends == [(False, False), (False, False), (False, True)] * 2
