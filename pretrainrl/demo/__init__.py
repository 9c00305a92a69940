"""The whole path in minutes on a CPU: frames, pre-training, agents, and one page about what was measured."""

from pretrainrl.demo.run import run_demo

__all__ = ["run_demo"]
