"""The command line of every experiment: one line, and nothing lost, however it is stopped.

A signal ends the process as kill -9 would, but with a line and a code, and a few seconds for what
registered with ``before_leaving``: trainings are kept at the step where they are. All else on the
disk is written whole or not at all, so there is nothing to wait for. (An exception would be
swallowed now and then by what runs just then: an import, a callback.) What takes time to import is
imported inside: ctrl-C counts from the first moment.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator

PATIENCE = 7.0  # seconds that whoever is called before leaving may take
REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_hint, _hint_of_all = "", ""
_clean_up: list[Callable[[], None]] = []


def main(name: str) -> None:
    """Run ``python -m experiments.<name>``."""
    with stoppable():
        from experiments import experiment, running

        running.main(experiment.load(name))


def set_hint(hint: str, of_all: bool = False) -> None:
    """Set what the line of a stopped process says: what the next one will find.

    Where there are many runs, that of all goes before that of the one that goes on just then.
    """
    global _hint, _hint_of_all
    if of_all:
        _hint_of_all = hint
    else:
        _hint = hint


def get_hint() -> str:
    """Return that."""
    return _hint


@contextlib.contextmanager
def before_leaving(clean_up: Callable[[], None]) -> Generator[None]:
    """Have a function called if a signal ends the process in this block: PATIENCE at most."""
    _clean_up.append(clean_up)
    try:
        yield
    finally:
        _clean_up.remove(clean_up)


@contextlib.contextmanager
def stoppable() -> Generator[None]:
    """End on ctrl-C and SIGTERM with one line; when whoever reads our output leaves, with none."""
    for number in REASONS:
        signal.signal(number, _stop)
    try:
        yield
        if sys.stdout:
            sys.stdout.flush()
        for number in REASONS:
            signal.signal(number, signal.SIG_IGN)  # all is done: nothing is left to stop
    except BrokenPipeError:  # `| head`, say
        os._exit(128 + signal.SIGPIPE)


def _stop(number: int, _) -> None:
    for other in REASONS:
        signal.signal(other, signal.SIG_IGN)  # who presses ctrl-C twice gets the one line
    signal.alarm(int(PATIENCE) + 2)  # ends the process if one of these does not
    for clean_up in _clean_up[::-1]:  # a copy: what ends meanwhile takes its own away
        with contextlib.suppress(Exception):
            clean_up()
    signal.alarm(1)  # ends the process if the terminal is stopped (ctrl-S) and takes no line
    with contextlib.suppress(Exception):
        hint = _hint_of_all or _hint or "the same command starts it again"
        line = f"error: {REASONS[signal.Signals(number)]}; {hint}"
        print(line, file=sys.stderr, flush=True)
    os._exit(128 + number)  # as shells give it
