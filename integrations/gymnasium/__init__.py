"""Gymnasium: wrappers that turn frames into the features of a frozen encoder."""

from pretrainrl.integrations.gymnasium.encode_observation import EncodeObservation
from pretrainrl.integrations.gymnasium.vector_encode_observation import VectorEncodeObservation

__all__ = ["EncodeObservation", "VectorEncodeObservation"]
