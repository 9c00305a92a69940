"""Probing: what the features of a frozen encoder tell, by linear probes and by measures of their health."""

from pretrainrl.probing.measure import GameProbe, Probe, probe
from pretrainrl.probing.samples import Samples, take_samples

__all__ = ["GameProbe", "Probe", "Samples", "probe", "take_samples"]
