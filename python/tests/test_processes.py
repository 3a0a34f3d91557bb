"""Signals, threads and processes of the caller, and the memory that a fit needs."""

import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest

from elbo_vae import VAE, Data, Model, loss

SMALL = {"n_components": 2, "hidden": 16, "random_state": 1, "epochs": 2}


def codes_of(rows, jobs=2):
    return VAE(**SMALL, n_jobs=jobs).fit(rows).transform(rows)


def test_ctrl_c_stops_a_fit_at_the_next_step():
    """An epoch of 20,000,000 steps takes minutes; the signal comes while the compiled code trains."""
    rows = np.broadcast_to(np.linspace(0, 1, 8, dtype=np.float32), (20_000_000, 8))
    vae = VAE(2, hidden=8, scale="none", batch_size=1, random_state=1)
    main = threading.main_thread().ident

    def interrupt():
        # This thread runs at all because the interpreter's lock is released.
        while sys._current_frames()[main].f_code.co_name != "_epoch":
            pass
        # From the first line of the function into the compiled code.
        for _ in range(20):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        vae.fit(rows)
    thread.join()
    assert vae.n_epochs_ == 0
    assert vae.transform(rows[:3]).shape == (3, 2) and np.isfinite(vae.score(rows[:3]))
    # At least one step was done.
    initial, _ = Model(vae.model_.config, 1).encode(Data(rows[:3]))
    assert (vae.transform(rows[:3]) != initial).any()
    vae.partial_fit(rows[:64])


def test_signal_handlers_run_during_a_fit():
    """Any handler, not only that of Ctrl-C, and an exception of it ends the fit."""
    rows = np.broadcast_to(np.linspace(0, 1, 8, dtype=np.float32), (20_000_000, 8))

    def stop(*_):
        raise TimeoutError("as an alarm")

    before = signal.signal(signal.SIGALRM, stop)
    try:
        # The rows are checked before the fit; the alarm may come then, too.
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(TimeoutError):
            VAE(2, hidden=8, scale="none", batch_size=1).fit(rows)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes(table, method):
    vae = VAE(**SMALL, n_jobs=2)
    vae.partial_fit(table)
    # The threads of `vae` are alive when the process forks.
    wanted = codes_of(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with multiprocessing.get_context(method).Pool(2) as pool:
            results = pool.map_async(codes_of, [table] * 4).get(timeout=120)
    for found in results:
        np.testing.assert_array_equal(found, wanted)
    assert vae.partial_fit(table).n_epochs_ == 2


def test_a_fitted_estimator_in_a_forked_process(table):
    """Inference and training of an object whose threads stayed in the parent."""
    vae = VAE(**SMALL, n_jobs=2).partial_fit(table)
    wanted = vae.transform(table)
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        with os.fdopen(write, "wb") as file:
            pickle.dump((vae.transform(table), vae.partial_fit(table).transform(table)), file)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        found, trained = pickle.load(file)
    os.waitpid(child, 0)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(trained, vae.partial_fit(table).transform(table))


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib(table, backend):
    wanted = codes_of(table)
    results = joblib.Parallel(n_jobs=2, backend=backend)(
        joblib.delayed(codes_of)(table, jobs) for jobs in (1, 2, -1, None)
    )
    for found in results:
        np.testing.assert_array_equal(found, wanted)


def test_threads_of_the_caller(table):
    """One estimator, read by several threads; and fits and kernels at the same time."""
    vae = VAE(**SMALL, n_jobs=2).fit(table)
    wanted = vae.transform(table)
    x = np.random.default_rng(0).random((64, 40), dtype=np.float32)
    value = loss.bernoulli(x, x).value
    with ThreadPoolExecutor(4) as pool:
        codes = [pool.submit(vae.transform, table) for _ in range(20)]
        fits = [pool.submit(codes_of, table) for _ in range(4)]
        values = [pool.submit(loss.bernoulli, x, x) for _ in range(20)]
        for found in (*codes, *fits):
            np.testing.assert_array_equal(found.result(), wanted)
        assert {found.result().value for found in values} == {value}


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize(
    "rows",
    [
        "np.full((2**18, 1024), 0.5, np.float32)",
        "np.full((2**17, 1024), 0.5, np.float64)",
        "np.full((2**18, 1280), 0.5, np.float32)[::-1, :1024]",
        "np.full((1024, 2**18), 0.5, np.float32).T",
    ],
)
def test_rows_are_not_copied(rows):
    """Peak memory of fit, transform and scores on an array of 1 GiB, which a copy would double."""
    program = f"""
        import resource
        import numpy as np
        from elbo_vae import VAE, VAEDetector

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

        def work(x):
            vae = VAE(2, hidden=8, batch_size=4096, epochs=1, validation_fraction=0.1, random_state=1)
            vae.fit(x)
            vae.transform(x)
            vae.score(x)
            VAEDetector(n_components=1, epochs=1, batch_size=4096).fit(x).decision_function(x)

        x = {rows}
        assert 0.99 * 2**30 <= x.nbytes <= 2**30, x.nbytes
        # Threads, modules and the small parts of a fit are in memory already.
        work(x[:5000])
        before = peak()
        work(x)
        print(peak() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 100, f"{done.stdout} MiB above the array"


def test_the_peak_of_memory_is_seen():
    """The measure of the test above finds a copy."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    array = np.ones(2**26 + before * 128, np.float64)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > 2**18
    del array
