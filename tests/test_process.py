"""What library calls leave as it is: environment variables, threads, the emulator's log, the allocator, random numbers."""

import subprocess
import sys

CALLS = """
import os, random, sys
import ale_py, numpy, torch
import pretrainrl.malloc

def state():
    numbers = torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(), random.getstate()
    return dict(os.environ), torch.get_num_threads(), numbers

def forbidden():
    raise AssertionError("a library call changed the allocator")

pretrainrl.malloc.keep_freed_memory = forbidden
import pretrainrl
from pretrainrl.data.emulator import Emulator
from pretrainrl.games import find_game
from pretrainrl.integrations.sb3 import VecEncodeObservation, policy_kwargs
from pretrainrl.integrations.sb3.envs.atari_vec_env import RecordedAtariVecEnv

find_game("pong").action_meanings, Emulator(find_game("pong")).restart(0)  # OpenCV changes the environment when it is imported
before = state()
pretrainrl.list_encoders()
pretrainrl.check_encoder(pretrainrl.make_encoder("random.nature", device="auto", dtype="auto"))
policy_kwargs("random.nature")
game = find_game("pong")
assert game.action_meanings and Emulator(game).restart(3).shape == (84, 84)
VecEncodeObservation(RecordedAtariVecEnv("pong", 1, seed=0), "random.nature").reset()
pretrainrl.clear_encoder_cache()
assert state() == before
print("of the emulator from here on:", file=sys.stderr, flush=True)
ale_py.ALEInterface()
"""


def test_library_calls_leave_the_process_as_it_is() -> None:
    result = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Arcade Learning Environment" in result.stderr.split("from here on:")[1], "its banner was switched off"


def test_the_command_line_keeps_the_emulator_quiet() -> None:
    script = "import sys; from pretrainrl.cli import main; sys.argv[1:] = ['collect', 'pong', '--kind', 'a b']; main()"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "Arcade Learning" not in result.stderr
