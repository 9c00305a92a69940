"""Backbones, and the frozen encoders made of them."""

from pretrainrl.encoders.check import check_encoder
from pretrainrl.encoders.encoder import Encoder
from pretrainrl.encoders.factory import cached_encoder, make_backbone, make_encoder

__all__ = ["Encoder", "cached_encoder", "check_encoder", "make_backbone", "make_encoder"]
