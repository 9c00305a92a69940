"""Probing of frozen features: linear classifiers, and measures of the features' health."""

from pretrainrl.probing.measure import GameProbe, Probe, probe
from pretrainrl.probing.samples import Samples, take_samples

__all__ = ["GameProbe", "Probe", "Samples", "probe", "take_samples"]
