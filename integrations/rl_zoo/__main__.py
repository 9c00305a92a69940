"""`python -m pretrainrl.integrations.rl_zoo train` and `enjoy`: the zoo's scripts with Rainbow among their algorithms."""

from pretrainrl.integrations.rl_zoo.command_line import main

if __name__ == "__main__":
    main()
