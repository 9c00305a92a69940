"""The zoo's scripts with Rainbow among their algorithms, and what they need to know of it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pretrainrl.errors import InputError, PretrainRLError
from pretrainrl.integrations.sb3 import Rainbow
from pretrainrl.optional import require

_SETTINGS = "pretrainrl.integrations.rl_zoo.rainbow"
_SCRIPTS = ("train", "enjoy")


def main() -> None:
    """Run the script that the first argument names, and exit with 2 on bad input."""
    try:
        script, *arguments = sys.argv[1:] or [""]
        if script not in _SCRIPTS:
            raise InputError(f"expected train or enjoy, then the zoo's own options; got {script!r}")
        sys.argv[1:] = with_settings(arguments) if script == "train" else arguments
        run(script)
    except PretrainRLError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def run(script: str) -> None:
    """Run the zoo's script `train` or `enjoy` on the arguments in `sys.argv`.

    Raises:
        MissingExtraError: The extra `zoo` is not installed.
    """
    # These dictionaries are what the zoo's modules share.
    require("rl_zoo3", "zoo").ALGOS["rainbow"] = Rainbow
    search = require("rl_zoo3.hyperparams_opt", "zoo")
    search.HYPERPARAMS_SAMPLER["rainbow"] = sample_rainbow_params
    search.HYPERPARAMS_CONVERTER["rainbow"] = convert_rainbow_params
    getattr(require(f"rl_zoo3.{script}", "zoo"), script)()


def with_settings(arguments: list[str]) -> list[str]:
    """Add `--conf-file` for Rainbow where there is none: the zoo looks for default settings among its own files only."""
    missing = option(arguments, "--algo") == "rainbow" and option(arguments, "--conf-file", "-conf") is None
    return [*arguments, "--conf-file", _SETTINGS] if missing else arguments


def option(arguments: list[str], *names: str) -> str | None:
    """Return what an option of the zoo's command line is given, or None."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(*names, dest="value")
    value: str | None = parser.parse_known_args(arguments)[0].value
    return value


def sample_rainbow_params(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """Sample arguments of `Rainbow`; the policy's are left as they are, so a search keeps its encoder.

    Args:
        trial: Trial of Optuna.
        n_actions: Number of actions, which is not used.
        n_envs: Number of environments, which is not used.
        additional_args: Arguments of hindsight replay, which are not used.
    """
    sampled = {
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 0.001, 0.03, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 3e-3, log=True),
        "batch_size_pow": trial.suggest_int("batch_size_pow", 4, 7),
        "train_freq": trial.suggest_int("train_freq", 1, 8),
        "gradient_steps": trial.suggest_int("gradient_steps", 1, 4),
        "n_steps": trial.suggest_int("n_steps", 1, 10),
        "target_update_interval": trial.suggest_int("target_update_interval", 100, 10_000, log=True),
        "per_alpha": trial.suggest_float("per_alpha", 0.0, 0.8),
        "dueling": trial.suggest_categorical("dueling", [False, True]),
        "noisy": trial.suggest_categorical("noisy", [False, True]),
    }
    return convert_rainbow_params(sampled)


def convert_rainbow_params(sampled: dict[str, Any]) -> dict[str, Any]:
    """Turn a trial's values into arguments of `Rainbow`."""
    arguments = dict(sampled)
    gamma, batch_size = 1 - arguments.pop("one_minus_gamma"), 2 ** arguments.pop("batch_size_pow")
    return {**arguments, "gamma": gamma, "batch_size": batch_size}
