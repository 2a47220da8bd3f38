"""Run the stage `evaluate`, which stands in main.py: `python -m stages.evaluate`."""

from stages.common import command

if __name__ == "__main__":
    command.run_stage("evaluate")
