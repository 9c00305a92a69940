"""Gymnasium: wrappers that turn frames into the features of a frozen encoder."""

from pretrainrl.integrations.gymnasium.encode_observation import EncodeObservation, VectorEncodeObservation

__all__ = ["EncodeObservation", "VectorEncodeObservation"]
