"""Comparison of objectives with Atari-PB's reference implementation.

`checkpoint` turns Atari-PB's checkpoints into objectives, `check` compares them on recorded batches, and `convert` turns
checkpoints into encoders and back.
"""

from pretrainrl.parity.check import Parity, check_parity

__all__ = ["Parity", "check_parity"]
