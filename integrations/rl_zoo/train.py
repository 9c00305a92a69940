"""`python -m pretrainrl.integrations.rl_zoo.train`: the zoo's `train` with `--algo rainbow`."""

from __future__ import annotations

import sys

from pretrainrl.integrations.rl_zoo.scripts import run, with_settings

if __name__ == "__main__":
    sys.argv[1:] = with_settings(sys.argv[1:])
    run("train")
