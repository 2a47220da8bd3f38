"""Run the stage `train`, which stands in main.py: `python -m stages.train`."""

from stages.common import command

if __name__ == "__main__":
    command.run_stage("train")
