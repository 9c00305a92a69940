"""Every command that can be taken up again, at toy size."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dqn_shards import log_of, numbered, write_shard
from fake_hub import FakeHub

from pretrainrl.cli import main
from pretrainrl.data import cache_build
from pretrainrl.errors import DatasetError
from pretrainrl.integrations.minari import collect_dataset, open_dataset, upload_dataset, write_dataset, write_recording
from pretrainrl.integrations.sb3.recording import agent_log
from pretrainrl.integrations.sb3.recording.learners import ROLLOUT
from pretrainrl.pretraining import loop

OWN, PLAYED = "pretrainrl/atari/pong-mine-v0", "pretrainrl/atari/pong-random-v0"
OLD, NEW = (20, 20, 20), (30, 10, 25)
REMOTE = "hf://someone"


@dataclass(frozen=True)
class Job:
    """Work that is killed and begun again.

    Attributes:
        name: Name on the command line and in the table.
        prepare: Function that writes into the current folder what is there before the work.
        run: Function that does the work in the current folder, and goes on with what it finds there.
        check: Function that raises an error where, after a kill, something is gone that was there before.
        seconds: Time limit of one attempt, in seconds.
        short: Whether it is short enough for continuous integration.
    """

    name: str
    prepare: Callable[[], None]
    run: Callable[[], None]
    check: Callable[[], None] = lambda: None
    seconds: float = 180.0
    short: bool = False


def command(words: str) -> Callable[[], None]:
    """Return a function that runs a command as its script does."""

    def run() -> None:
        sys.argv = ["pretrainrl", *shlex.split(words)]
        main()

    return run


def library(call: Callable[[], None]) -> Callable[[], None]:
    """Return a function that makes a library's call; Ctrl-C ends it as it ends any Python program."""

    def run() -> None:
        try:
            call()
        except KeyboardInterrupt:
            sys.exit(130)

    return run


def own_set() -> None:
    """Write a set of three episodes."""
    write_dataset(OWN, numbered(OLD))


def played_set() -> None:
    """Play a little and record it; then only the recording is there."""
    collect_dataset("pong", 120, n_envs=4)
    write_recording(PLAYED, "play.rec")


def shards() -> None:
    """Write two shards of two games."""
    for game in ("Pong", "Boxing"):
        for checkpoint in (1, 2):
            write_shard(Path("shards"), log_of(numbered((9, 8, 7), checkpoint)), game=game, checkpoint=checkpoint)


def short_segments() -> None:
    """Let what is saved now and then be saved often; commits are not asked of git, which would be slow."""
    agent_log.SEGMENT_STEPS = ROLLOUT
    preset = vars(agent_log)["learner_preset"]
    vars(agent_log)["learner_preset"] = lambda *arguments: preset(*arguments).with_settings(batch_size=4)
    cache_build.COMMIT_BYTES = 0
    vars(loop)["code_commit"] = lambda: "unknown"


def overwrite() -> None:
    """Write a set of other episodes in the place of one that is there."""
    write_dataset(OWN, numbered(NEW), overwrite=True)


def one_of_both() -> None:
    """A set that is overwritten is always there, as the old one or as the new one."""
    lengths = tuple(map(len, open_dataset(OWN)))
    if lengths not in (OLD, NEW):
        raise AssertionError(f"the set has episodes of {lengths} transitions")


def own_readme() -> None:
    """Write a set with a README.md that somebody has put there."""
    own_set()
    readme().write_text("mine")
    Path("remote").mkdir()


def readme() -> Path:
    """Path of that README.md."""
    return Path("sets") / OWN / "README.md"


def upload() -> None:
    """Upload a set to a hub that is a folder."""
    hub = FakeHub.__new__(FakeHub)
    hub.store, hub._cache, hub.fail_after, hub.tokens, hub.commits = Path("remote/hub"), Path("remote/cache"), None, [], {}
    hub.store.mkdir(exist_ok=True)
    patch: Any = pytest.MonkeyPatch()
    patch.setattr("huggingface_hub.HfApi", hub)
    patch.setattr("minari.storage.remotes.huggingface.HfApi", hub)
    try:
        upload_dataset(OWN, remote=REMOTE)
    except DatasetError as error:
        if "already" not in str(error):
            raise


def readme_is_mine() -> None:
    """An upload leaves the README.md alone."""
    if readme().read_text() != "mine":
        raise AssertionError("the README.md that was there is another one")


_EVALUATE = "--eval-episodes 1 --max-episode-steps 6"
_LEARN = f"--game pong --encoder random.nature --features pooled --device cpu --n-envs 2 {_EVALUATE}"
_PLAY = f"{_LEARN} --steps 64 --eval-freq 32 --checkpoint-every 16 --out runs --resume"
_SUITE = Path(__file__).parents[1] / "support" / "toy_suite.toml"

JOBS = {
    job.name: job
    for job in (
        Job(
            "collect",
            lambda: None,
            command("collect pong boxing --steps 60 --n-envs 2 --resume --recording rec"),
            short=True,
        ),
        Job(
            "collect-agent",
            lambda: None,
            command("collect boxing --agent ppo-ram --steps 512 --n-envs 1 --save-agent agents --resume"),
        ),
        Job("datasets-build", played_set, command("datasets build play.rec --jobs 1 --out built"), short=True),
        Job(
            "import",
            shards,
            command("import dqn-replay shards pong boxing --runs 1 --checkpoints 1,2 --steps 20 --resume --verify"),
            short=True,
        ),
        Job("cache-build", own_set, command(f"cache build {OWN} --codec lz4"), short=True),
        Job(
            "pretrain",
            own_set,
            command(
                f"pretrain mae --dataset {OWN} --backbone nature --steps 6 --batch-size 4 --checkpoint-every 2 --device cpu "
                "--out run --resume"
            ),
            short=True,
        ),
        Job("probe", own_set, command(f"probe random.nature --dataset {OWN} --observations 50 --device cpu --out probes")),
        Job(
            "finetune-bc",
            own_set,
            command(f"finetune bc {_LEARN} --dataset {OWN} --epochs 4 --eval-freq 1 --checkpoint-every 1 --out runs --resume"),
            short=True,
        ),
        Job("finetune-rainbow", lambda: None, command(f"finetune rainbow {_PLAY}")),
        Job("finetune-qrdqn", lambda: None, command(f"finetune qrdqn {_PLAY}")),
        Job("finetune-ppo", lambda: None, command(f"finetune ppo {_PLAY}")),
        Job(
            "benchmark",
            lambda: None,
            command(f"benchmark {_SUITE} --encoders random.nature --no-baselines --jobs 1 --seeds 2 --out results"),
            seconds=400,
        ),
        Job("overwrite", own_set, library(overwrite), one_of_both, short=True),
        Job("upload", own_readme, library(upload), readme_is_mine),
    )
}
