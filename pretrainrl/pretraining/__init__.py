"""The one pre-training loop, and the run folder that it fills."""

from pretrainrl.pretraining.config import PretrainConfig
from pretrainrl.pretraining.loop import run

__all__ = ["PretrainConfig", "run"]
