"""Run the stage `split`, which stands in main.py: `python -m stages.split`."""

from stages.common import command

if __name__ == "__main__":
    command.run_stage("split")
