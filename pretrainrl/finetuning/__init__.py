"""An agent that learns a game on a frozen encoder, from the first step to the files that plots are made of."""

from pretrainrl.finetuning.run import finetune

__all__ = ["finetune"]
