"""The program: `python -m pretrainrl`, and the command `pretrainrl`."""

import sys


def main() -> None:
    """Run the command line; an interruption while it is being imported ends it as one later does."""
    try:
        from pretrainrl.cli import main as run_command_line

        run_command_line()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
