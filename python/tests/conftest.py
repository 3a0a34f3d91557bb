"""Data and the tool, which several tests share."""

import os
import shutil
import signal
from pathlib import Path

# For the checks of scikit-learn that pass arrays of other libraries; before SciPy is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

# A shell starts commands in the background with Ctrl-C ignored, and Python leaves that so.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def table():
    """A table of 300 rows and 6 features that depend on 2 hidden ones, float64."""
    rng = np.random.default_rng(5)
    hidden = rng.normal(size=(300, 2))
    return hidden @ rng.normal(size=(2, 6)) * 3.0 + rng.normal(size=(300, 6)) * 0.3 + 10.0


@pytest.fixture(scope="session")
def images():
    """300 rows of 64 gray values in [0, 1], float32."""
    rng = np.random.default_rng(6)
    return rng.random((300, 64), dtype=np.float32)


@pytest.fixture(scope="session")
def tool():
    """Path of the tool `elbo`: that of the variable ELBO_TOOL, or of a build of the crate."""
    if path := os.environ.get("ELBO_TOOL"):
        return path
    target = Path(__file__).parents[2] / "target"
    for profile in ("release", "debug"):
        if (found := target / profile / "elbo").exists():
            return str(found)
    if found := shutil.which("elbo"):
        return found
    pytest.skip("no tool: build it with `cargo build --release --features cli`, or set ELBO_TOOL")
