"""Pre-training objectives, one file each, and how to make one by name."""

from pretrainrl.objectives.factory import make_objective
from pretrainrl.objectives.objective import Objective

__all__ = ["Objective", "make_objective"]
