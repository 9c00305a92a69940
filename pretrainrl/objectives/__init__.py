"""Pre-training objectives: one file for each, their base classes, and `make_objective`."""

from pretrainrl.objectives.objective import Objective, make_objective

__all__ = ["Objective", "make_objective"]
