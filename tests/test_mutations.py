"""The tests notice what breaks the arithmetic."""

import subprocess
import sys

import pytest

from tests.conftest import PROJECT
from tests.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_the_code_has_what_is_mutated(mutation: Mutation) -> None:
    """Once: who changes that code changes tests/mutations.py, too."""
    assert (PROJECT / mutation.file).read_text().count(mutation.old) == 1
    assert mutation.new != mutation.old


@pytest.mark.slow
def test_every_mutation_is_caught() -> None:
    """`python -m tests.mutations` breaks the code in one place after the other, and each time a test fails."""
    done = subprocess.run([sys.executable, "-m", "tests.mutations"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("caught") == len(MUTATIONS)


TWO_BAD_ONES = """
import sys
from tests import mutations
def bad(old): return mutations.Mutation(old, "stages/split/main.py", old, old, "tests/test_split.py -k seed")
mutations.MUTATIONS[:] = [bad("return np.isin(groups, chosen)"), bad("no such text")]
mutations.import_once = lambda: None
sys.argv = ["mutations"]
sys.exit(mutations.main())
"""


@pytest.mark.slow
def test_a_mutation_that_is_not_caught_is_told() -> None:
    """One that changes nothing survives, and one whose text is not there cannot be applied: the script fails."""
    done = subprocess.run([sys.executable, "-c", TWO_BAD_ONES], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "passed " in done.stdout
    assert "SURVIVED " in done.stdout
    assert "NOT FOUND " in done.stdout
    assert done.stdout.count(" s  ") == 2
