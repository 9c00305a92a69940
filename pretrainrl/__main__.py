"""`python -m pretrainrl` is the command line."""

from pretrainrl.cli import main

main()
