"""What a stage computes with: the code as its source is now, and none of the user's own settings of the libraries."""

import os
import sys
import warnings
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from importlib.util import cache_from_source
from pathlib import Path

from stages.common.errors import StageError

STAGES = Path(__file__).resolve().parent.parent
# Variables that NumPy, SciPy, scikit-learn, matplotlib, PyTorch and the libraries below them read: they choose other
# arithmetic, other cores or other pictures
PREFIXES = (
    *("ATEN_", "BLIS_", "DNNL_", "GOMP_", "GOTO_", "KMP_", "MATPLOTLIB", "MKL_", "MPL", "NPY_", "NUMPY_", "OMP_"),
    *("ONEDNN_", "OPENBLAS_", "PYTORCH_", "SCIPY_", "SKLEARN_", "TORCH"),
)
# The number of workers, which changes no bit; a log; and how several processes find each other
KEPT = ("OMP_NUM_THREADS", "ONEDNN_VERBOSE", "TORCHELASTIC_", "TORCH_NCCL_")


def neutralise() -> None:
    """Undo what the user's variables and files decide, and have the stages' modules loaded from their source.

    Call it before any other library is imported. Raises StageError if a module was loaded from bytecode of another
    source already.
    """
    for name in list(os.environ):
        if name.startswith(PREFIXES) and not name.startswith(KEPT):
            del os.environ[name]
    os.environ["MATPLOTLIBRC"] = os.devnull  # so that the file in the user's configuration is not read
    warnings.resetwarnings()  # PYTHONWARNINGS=error makes a failure of a library's remark; what follows is the default
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    _load_from_source()


def cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none


class _FromSource(SourceFileLoader):
    def path_stats(self, path: str) -> dict[str, float]:
        raise OSError  # without them Python neither reads bytecode nor writes it


def _load_from_source() -> None:
    """Let the stages' modules be loaded from their source: bytecode counts as current by size and second alone."""
    loaded = [module for name, module in sys.modules.items() if name == "__main__" or name.startswith("stages.")]
    for loader in (module.__spec__.loader for module in loaded if module.__spec__):
        if isinstance(loader, SourceFileLoader):
            source = loader.source_to_code(loader.get_data(loader.path), loader.path)
            if loader.get_code(loader.name) != source:
                raise StageError(f"{cache_from_source(loader.path)}: of another source; delete it and run again")

    def finder(path: str) -> FileFinder:
        if STAGES not in (Path(path), *Path(path).parents):
            raise ImportError
        return FileFinder(path, (_FromSource, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, finder)
    sys.path_importer_cache.clear()
