"""Run the stage `download`, which stands in main.py: `python -m stages.download`."""

from stages.common import command

if __name__ == "__main__":
    command.run_stage("download")
