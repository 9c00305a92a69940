"""RL Baselines3 Zoo: Rainbow among its algorithms, encoders by name in its YAML files, hyper-parameters for both."""
