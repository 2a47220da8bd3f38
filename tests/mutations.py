"""Break the code in one place after the other, and see whether the tests notice.

    python -m tests.mutations [WORD]

Applies each mutation (those with WORD in their name) to a temporary copy of the project, and runs the tests that are to
fail then: fast ones, without MNIST. Fails if one survives, if its text no longer is in the code, or if the tests fail
without any mutation.
"""

import gc
import importlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).parent.parent
COPIED = ("datasets", "nets", "stages", "tests", "tools", "recipes", "params.yaml", "dvc.yaml", "pyproject.toml")


class Mutation(NamedTuple):
    """A text of a file that is replaced, and the tests that are to fail then."""

    name: str
    file: str
    old: str
    new: str
    tests: str


PLAIN, BITS = "tests/test_arithmetic.py -k plain_loop", "tests/test_arithmetic.py -k known_bits"
TRAIN, FIT, DISTORTION = "tests/test_train.py", "stages/train/fit.py", "stages/train/distortion.py"
ELEMENTS = "stages/net/kernels/elements.py"
MUTATIONS = [
    Mutation(
        "the shards are summed in reverse",
        "stages/train/gradients.py",
        "total = own[0].clone()\n        for other in own[1:]:",
        "total = own[-1].clone()\n        for other in own[-2::-1]:",
        BITS,
    ),
    Mutation("batch-norm statistics are not merged", FIT, "    gradient.merge_statistics()", "    pass", PLAIN),
    Mutation(
        "validation is measured on training rows",
        FIT,
        "(data.training[alike], data.validation)",
        "(data.training[alike], data.training[-len(data.validation) :])",
        PLAIN,
    ),
    Mutation("the schedule is one step behind", FIT, "step / (all_steps + 1)", "(step - 1) / (all_steps + 1)", PLAIN),
    Mutation("the schedule ends one step early", FIT, "step / (all_steps + 1)", "step / all_steps", PLAIN),
    Mutation("one shift for both axes", ELEMENTS, "(places[n * 3 + 2] - most)", "(places[n * 3 + 1] - most)", PLAIN),
    Mutation("each epoch distorts the images of the last", FIT, "distort(data.images,", "distort(images,", PLAIN),
    Mutation("each epoch distorts in the same way", FIT, '"distortion", epoch)', '"distortion", 1)', PLAIN),
    Mutation(
        "a distorted pixel is rounded down", DISTORTION, ").round().byte()", ").byte()", "tests/test_distortion.py"
    ),
    Mutation("betas are ignored", FIT, "recipe.betas or (0.9, 0.999)", "(0.9, 0.999)", PLAIN),
    Mutation("weight decay is ignored", FIT, "parameters, recipe.weight_decay,", "parameters, 0.0,", PLAIN),
    Mutation("momentum is ignored", FIT, "recipe.momentum or 0.0", "0.0", PLAIN),
    Mutation(
        "label smoothing is ignored",
        FIT,
        "recipe.label_smoothing, recipe.batch_size)",
        "0.0, recipe.batch_size)",
        PLAIN,
    ),
    Mutation("adamw decays as adam does", "stages/train/optimizer.py", 'self._kind == "adam":', "True:", PLAIN),
    Mutation("all shards have the same dropout", FIT, "epoch, start, shard)", "epoch, start, 0)", PLAIN),
    Mutation(
        "the loss is divided by the shard",
        FIT,
        "label_smoothing, recipe.batch_size)",
        "label_smoothing, recipe.batch_size // recipe.shards)",
        PLAIN,
    ),
    Mutation("the order is not shuffled again", FIT, '(seed, "order", epoch)', '(seed, "order")', PLAIN),
    Mutation("the optimizer is not resumed", FIT, "optimizer.restore(optimizer_state)", "pass", f"{TRAIN} -k goes_on"),
    Mutation(
        "a checkpoint's digest is not checked",
        "stages/train/checkpoint.py",
        "if hashlib.sha256(state).digest() != digest:",
        "if not digest:",
        f"{TRAIN} -k damaged_checkpoint",
    ),
    Mutation(
        "the test set is trained on",
        "stages/train/main.py",
        'raw.images("train")',
        'raw.images("t10k")',
        f"{TRAIN} -k official_training_set",
    ),
    Mutation("NaN is trained on", FIT, "if not math.isfinite(loss):", "if False:", f"{TRAIN} -k diverges"),
    Mutation(
        "an input gradient is summed in another order",
        "stages/net/operations.py",
        "for ky in range(kh):",
        "for ky in reversed(range(kh)):",
        BITS,
    ),
    Mutation(
        "a product and a sum are contracted",
        ELEMENTS,
        "p - rate.spread(lanes) * velocity",
        "code.fma(-velocity, rate.spread(lanes), p)",
        BITS,
    ),
    Mutation(
        "a fused multiply-add is two operations",
        "stages/net/kernels/product.py",
        "code.fma(factor.spread(lanes), b_part, total.load())",
        "factor.spread(lanes) * b_part + total.load()",
        BITS,
    ),
    Mutation(
        "the exponential is the system's",
        ELEMENTS,
        "probabilities[at] = power_of_e(code, log)",
        'probabilities[at] = code.call("exp", log)',
        "tests/test_kernels.py -k exponential",
    ),
    Mutation(
        "workers stay bound",
        "stages/common/environment.py",
        '"GOMP_", "GOTO_", "KMP_", "MATPLOTLIB", "MKL_", "MPL", "NPY_", "NUMPY_", "OMP_"',
        '"KMP_"',
        "tests/test_workers.py -k OMP_PROC_BIND",
    ),
    Mutation(
        "a writer is in both parts",
        "stages/split/main.py",
        "return np.isin(groups, chosen)",
        "return np.isin(groups, chosen) & (labels > 0)",
        "tests/test_split.py -k whole_writers",
    ),
    Mutation(
        "colours are mixed up",
        ELEMENTS,
        "(places[n * 3 + 2] - most) * channels",
        "places[n * 3 + 2] - most",
        "tests/test_own_data.py -k in_colour_are_moved",
    ),
    Mutation(
        "a wrong row among the mislabelled",
        "datasets/mnist/dataset.yaml",
        "mislabelled: [947, 1621",
        "mislabelled: [947, 1622",
        "tests/test_evaluate.py",
    ),
]


def apply(mutation: Mutation, folder: Path) -> bool:
    """Return whether the file in `folder` had the text once, and has the other one now."""
    path = folder / mutation.file
    text = path.read_text()
    path.write_text(text.replace(mutation.old, mutation.new))
    return text.count(mutation.old) == 1


def import_once() -> None:
    """Import for all the processes that are forked what takes seconds."""
    for module in ("scipy.stats", "sklearn.metrics", "torch._dynamo"):
        importlib.import_module(module)
    gc.freeze()  # the forked processes need not look for garbage in it


def run(tests: str, folder: Path) -> int:
    """Return pytest's exit status of `tests` in `folder`: 0 for passed, 1 for failed."""
    process = os.fork()
    if process == 0:
        os.chdir(folder)
        os.environ.pop("MNIST_MIRROR", None)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        for name in [name for name in sys.modules if name.split(".")[0] in ("stages", "tests")]:
            del sys.modules[name]
        sys.path[0] = str(folder)
        with (folder / "output").open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os._exit(pytest.main(["-o", "addopts=", "-m", "not slow", "-xp", "no:cacheprovider", *tests.split(" ", 2)]))
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def check(name: str, mutation: Mutation | None, tests: str, expected: int) -> bool:
    """Run `tests` on a copy of the project with `mutation`, print what came out, and return whether it was expected."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for entry in COPIED:
            copy = shutil.copytree if (PROJECT / entry).is_dir() else shutil.copy2
            copy(PROJECT / entry, folder / entry)
        if mutation and not apply(mutation, folder):
            print(f"NOT FOUND  {name}: {mutation.file} has not once {mutation.old!r}")
            return False
        status = run(tests, folder)
        word = {(0, 0): "passed", (1, 1): "caught", (1, 0): "SURVIVED"}.get((expected, status), f"ERROR {status}")
        print(f"{word:8}  {time.monotonic() - start:4.1f} s  {name}", flush=True)
        if word.isupper():
            print((folder / "output").read_text()[-2000:])
    return status == expected


def main() -> int:
    """Return 0 if the tests pass without a mutation and fail with each."""
    import_once()
    chosen = [mutation for mutation in MUTATIONS if all(word in mutation.name for word in sys.argv[1:])]
    good = [check(tests, None, tests, expected=0) for tests in sorted({mutation.tests for mutation in chosen})]
    good += [check(mutation.name, mutation, mutation.tests, expected=1) for mutation in chosen]
    gc.unfreeze()
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
