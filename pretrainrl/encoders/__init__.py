"""Backbones, and the frozen encoders that are made of them."""

from pretrainrl.encoders.check import check_encoder
from pretrainrl.encoders.encoder import Encoder
from pretrainrl.encoders.factory import cached_encoder, clear_encoder_cache, make_backbone, make_encoder

__all__ = ["Encoder", "cached_encoder", "check_encoder", "clear_encoder_cache", "make_backbone", "make_encoder"]
