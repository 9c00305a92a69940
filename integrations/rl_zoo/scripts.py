"""How the zoo's scripts are run with Rainbow among their algorithms."""

from __future__ import annotations

import argparse
import sys

from pretrainrl.errors import PretrainRLError
from pretrainrl.integrations.rl_zoo.search import convert_rainbow_params, sample_rainbow_params
from pretrainrl.integrations.sb3 import Rainbow
from pretrainrl.optional import require

_SETTINGS = "pretrainrl.integrations.rl_zoo.rainbow"


def run(script: str, rainbow: type[Rainbow] = Rainbow) -> None:
    """Run the zoo's script `train` or `enjoy` on the arguments in `sys.argv`, and exit with 2 on bad input.

    Args:
        script: its name.
        rainbow: class that the zoo calls `rainbow`.
    """
    try:
        # Both dictionaries are what the zoo's modules share.
        require("rl_zoo3", "zoo").ALGOS["rainbow"] = rainbow
        search = require("rl_zoo3.hyperparams_opt", "zoo")
        search.HYPERPARAMS_SAMPLER["rainbow"] = sample_rainbow_params
        search.HYPERPARAMS_CONVERTER["rainbow"] = convert_rainbow_params
        getattr(require(f"rl_zoo3.{script}", "zoo"), script)()
    except PretrainRLError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def with_settings(arguments: list[str]) -> list[str]:
    """Add `--conf-file` where Rainbow has none: the zoo looks for default settings among its own files only."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--algo")
    parser.add_argument("-conf", "--conf-file")
    known, _ = parser.parse_known_args(arguments)
    return [*arguments, "--conf-file", _SETTINGS] if known.algo == "rainbow" and known.conf_file is None else arguments
