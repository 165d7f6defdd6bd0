"""Settings of the test process, the ``getkey`` fixture, and the markers accelerator and parity.

Double precision is on for the whole process: every test names the dtype it means, and what
depends on JAX's defaults runs in a process of its own (``helpers.run_python``).
"""

import importlib.util
import itertools
import os
import sys

import jax
import pytest
from helpers import QUICK

from rnn_jax.devices import make_room

if QUICK and "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = QUICK
    jax.devices()  # reads it
    del os.environ["XLA_FLAGS"]

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")

NUMBERS = itertools.count(1)  # of the tests
PARITY_IS_REQUIRED = os.environ.get("RNN_JAX_REQUIRE_PARITY") == "1"


def pytest_configure(config):
    if hasattr(config, "cache") and not os.environ.get("XDG_CACHE_HOME"):
        # where the experiments that tests start keep what XLA compiled for them
        os.environ["XDG_CACHE_HOME"] = str(config.cache.mkdir("home"))


def pytest_runtest_setup(item):
    if item.get_closest_marker("accelerator") and jax.default_backend() not in ("gpu", "tpu"):
        pytest.skip(f"needs a GPU or TPU; JAX's default backend is {jax.default_backend()}")
    parity = item.get_closest_marker("parity")
    for module in parity.args or ("torch",) if parity else ():
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"compares with {module}, which is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    is_skip = report.skipped and not hasattr(report, "wasxfail")
    if PARITY_IS_REQUIRED and is_skip and item.get_closest_marker("parity"):
        report.outcome = "failed"
        report.longrepr = (
            f"RNN_JAX_REQUIRE_PARITY=1, and this parity test skips: {call.excinfo.value}"
        )
    return report


def pytest_terminal_summary(terminalreporter):
    def count(outcome):
        reports = terminalreporter.stats.get(outcome, [])
        return sum("parity" in getattr(report, "keywords", ()) for report in reports)

    if any(map(count, ("passed", "skipped", "failed", "error"))):
        terminalreporter.write_line(
            f"parity with other libraries: {count('passed')} passed, {count('skipped')} skipped, "
            f"{count('failed') + count('error')} failed"
        )
    faults = getattr(sys.modules.get("test_faults"), "FAULTS", None)
    for kind in faults or ():
        lost = sys.modules["test_faults"].LOST[kind]
        terminalreporter.write_line(f"{kind}: {faults[kind]} faults injected, {lost} runs lost")


@pytest.fixture(autouse=True)
def settings_of_the_process():
    """Undo what a command that runs in the test process sets: the next test means the old ones."""
    settings = ("jax_enable_x64", "jax_default_matmul_precision")
    before = {name: getattr(jax.config, name) for name in settings}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(autouse=True)
def room_for_compiled_programs():
    """Forget them in time, as a long run does."""
    yield
    if next(NUMBERS) % 10 == 0:
        make_room()


@pytest.fixture
def getkey():
    """A function that returns another PRNG key at every call, the same ones in every run."""
    state = [jax.random.key(20250101)]

    def next_key():
        state[0], key = jax.random.split(state[0])
        return key

    return next_key
