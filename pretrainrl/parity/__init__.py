"""Whether an objective computes what the reference implementation of the Atari-PB study computes.

`checkpoint` turns the study's checkpoints into objectives, `fixture` reads recorded batches, `check` compares.
"""

from pretrainrl.parity.check import Parity, check_parity

__all__ = ["Parity", "check_parity"]
