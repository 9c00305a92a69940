"""Settings of DQN on a frozen encoder's features, for the zoo's `--conf-file`."""

from pretrainrl.integrations.rl_zoo.settings import frozen

hyperparams = {"atari": frozen("dqn")}
