"""Run the stage `report`, which stands in main.py: `python -m stages.report`."""

from stages.common import command

if __name__ == "__main__":
    command.run_stage("report", against="show a revision, branch, tag or experiment beside this run")
