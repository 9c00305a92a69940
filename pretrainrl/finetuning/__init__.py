"""An agent that learns a game on a frozen encoder, from the first step to the files that plots are made of."""

from pretrainrl.finetuning.config import FinetuneConfig
from pretrainrl.finetuning.run import finetune
from pretrainrl.results import FinetuneResult

__all__ = ["FinetuneConfig", "FinetuneResult", "finetune"]
