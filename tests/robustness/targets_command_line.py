"""The command line: every command, with options that are missing, doubled, huge, negative, of another type, or markup."""

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random

from dqn_shards import log_of, numbered, write_shard
from mutate import HOSTILE_TEXT, hostile_toml
from targets_cards import write_encoder
from targets_datasets import OWN
from targets_sources import LENGTHS
from trials import REFUSED, SAME, Fault, Target, Trial, mutated

from pretrainrl.cli import main
from pretrainrl.integrations.minari import write_dataset
from pretrainrl.paths import environment_variables, registry_folder

# Values that nobody means. Those of options that say how long a command runs must be refused, or it would run that long.
WRONG_NUMBERS = ("-1", "0.5", "nan", "inf", "1e3", "", "x", "0x10", "--steps", "1,", "१२")
HUGE_NUMBERS = ("20000000000", "4294967296", "9223372036854775808", "1" + "0" * 40, "9" * 5000)
TEXTS = (*(text for text in HOSTILE_TEXT if "outside" not in text and "\0" not in text), "file", "file/below", "/proc/below")
FLAG = None

# Words of a command that works, and its options with values that work.
COMMANDS: dict[str, dict[str, str | None]] = {
    "encoders random*": {"--include-manual": FLAG},
    "info siammae": {},
    "info encoder": {},
    "verify random*": {},
    "collect pong": {
        "--agent": "random",
        "--steps": "8",
        "--keep-every": "1",
        "--n-envs": "1",
        "--seed": "1",
        "--sticky-actions": "0.25",
        "--repeat-probability": "0.5",
        "--ram": FLAG,
        "--kind": "x",
        "--version": "3",
        "--out": "out",
        "--recording": "rec",
        "--jobs": "1",
        "--resume": FLAG,
        "--greedy": FLAG,
        "--save-agent": "agents",
    },
    "import dqn-replay shards pong": {
        "--runs": "1",
        "--checkpoints": "1",
        "--steps": "9",
        "--on-missing": "error",
        "--verify": FLAG,
        "--kind": "x",
        "--version": "1",
        "--out": "out",
        "--resume": FLAG,
    },
    "import minari nothing": {"--kind": "x", "--version": "1", "--out": "out"},
    "datasets": {},
    f"datasets card {OWN}": {},
    "datasets build nothing-*": {"--out": "out", "--jobs": "1"},
    f"datasets upload {OWN}": {"--remote": "x", "--recording": FLAG},
    f"datasets download {OWN}": {"--remote": "x"},
    f"cache build {OWN}": {"--codec": "lz4"},
    "cache info": {},
    "cache clear nothing": {},
    "pretrain idm": {
        "--dataset": OWN,
        "--preset": "nano",
        "--backbone": "nature",
        "--steps": "1",
        "--batch-size": "4",
        "--lr": "0.001",
        "--name": "idm.mine",
        "--out": "run",
        "--seed": "1",
        "--device": "cpu",
        "--precision": "32-true",
        "--checkpoint-every": "1",
        "--resume": FLAG,
    },
    "probe encoder": {
        "--dataset": OWN,
        "--weights": "encoder/encoder.safetensors",
        "--baseline": "none",
        "--observations": "20",
        "--seed": "1",
        "--device": "cpu",
        "--dtype": "float32",
        "--out": "probes",
    },
    "finetune bc": {
        "--game": "pong",
        "--encoder": "encoder",
        "--preset": "short",
        "--weights": "encoder/encoder.safetensors",
        "--features": "pooled",
        "--neck": "mlp",
        "--dataset": OWN,
        "--epochs": "1",
        "--n-envs": "1",
        "--seed": "1",
        "--eval-freq": "1",
        "--eval-episodes": "1",
        "--max-episode-steps": "2",
        "--checkpoint-every": "1",
        "--out": "runs",
        "--device": "cpu",
        "--dtype": "float32",
        "--resume": FLAG,
    },
    "benchmark suite.toml": {
        "--encoders": "encoder",
        "--tasks": "nothing",
        "--games": "boxing",
        "--seeds": "1",
        "--no-baselines": FLAG,
        "--out": "results",
        "--engine": "local",
        "--jobs": "1",
    },
    "parity file file": {"--objective": "spr"},
    "convert file out": {"--objective": "spr"},
}
LENGTHS_OF_WORK = {"--steps", "--epochs", "--n-envs", "--eval-episodes", "--max-episode-steps", "--seeds", "--jobs"}
NEEDED = {"--dataset", "--game", "--encoder", "--tasks"}  # without which the command would not be told, or not be short
MAY_EXIT_1 = {"benchmark", "parity", "verify"}


def prepare(folder: Path) -> None:
    """Write a set, an encoder, shards, a suite and a file."""
    (folder / "here" / "sets").mkdir(parents=True)
    with environment_variables(MINARI_DATASETS_PATH=str(folder / "here" / "sets")):
        write_dataset(OWN, numbered((20, 20, 20)))
    (folder / "here" / "encoder").mkdir()
    write_encoder(folder / "here" / "encoder")
    write_shard(folder / "here" / "shards", log_of(numbered(LENGTHS)))
    (folder / "here" / "file").write_text("no folder")
    (folder / "here" / "suite.toml").write_text((registry_folder() / "suites" / "atari-smoke.toml").read_text())


def start(folder: Path) -> Trial:
    """Call a command, in this process, as its script does."""
    os.environ["HF_HUB_OFFLINE"] = "1"

    def trial(rng: Random, scratch: Path) -> str:
        here = mutated(scratch, folder / "here")
        os.chdir(here)
        places = {"MINARI_DATASETS_PATH": str(here / "sets"), "HOME": str(scratch)}
        if rng.random() < 0.1:
            places[rng.choice(("MINARI_DATASETS_PATH", "PRETRAINRL_HOME"))] = rng.choice(("file", "~nosuchuser", "x" * 300))
        if rng.random() < 0.1:
            card = rng.choice((here / "encoder" / "card.toml", here / "suite.toml"))
            card.write_text(hostile_toml(rng, card.read_text()), errors="replace")
        words = arguments(rng)
        with environment_variables(**places):
            return judge(words, *call(words))

    return trial


def arguments(rng: Random) -> list[str]:
    """Draw a command, leave out some of its options, and make one to three of its words hostile."""
    command = rng.choice(list(COMMANDS))
    words, options = command.split(), dict(COMMANDS[command])
    kept = [name for name in options if name in NEEDED or rng.random() < 0.5]
    kept += [name for name in LENGTHS_OF_WORK if name in options and name not in kept]
    values = {name: options[name] for name in kept}
    group = 2 if words[0] in ("import", "datasets", "cache") else 1
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice([*values, None])
        if name is not None and values[name] is not FLAG:
            long = name in LENGTHS_OF_WORK
            values[name] = rng.choice(WRONG_NUMBERS if long else (*WRONG_NUMBERS, *HUGE_NUMBERS, *TEXTS))
        elif len(words) > group:
            words[rng.randrange(group, len(words))] = rng.choice((*TEXTS, *WRONG_NUMBERS))
        elif rng.random() < 0.5:
            words.append(rng.choice(TEXTS))
    flat = [word for name, value in values.items() for word in ([name] if value is FLAG else [name, str(value)])]
    return [*words, *flat]


def call(words: list[str]) -> tuple[int, str, str]:
    """Return exit code, output and errors of a command."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    sys.argv = ["pretrainrl", *words]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as error:
            code = error.code
    return int(str(code or 0)), out.getvalue(), err.getvalue()


def judge(words: list[str], code: int, out: str, err: str) -> str:
    """Check that a command ended as the documentation says."""
    if "Traceback" in out + err:
        raise Fault("traceback", f"{words[0]}: printed")
    if code == 0:
        return SAME
    if code == 1 and words[0] in MAY_EXIT_1:
        return REFUSED
    if code != 2:
        raise Fault("exit code", f"{words[0]}: {code}")
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    if len(lines) == 1 or "Usage: " in err:
        if lines and not err.endswith(f"{lines[0]}\n"):
            raise Fault("message", f"{words[0]}: more than one line: {err[err.index(lines[0]) :][:120]!r}")
        return REFUSED
    raise Fault("message", f"{words[0]}: {err[-100:]!r}")


COMMAND_LINE = Target("command-line", prepare, start, seconds=60, watched=False)
