"""A run in a process of its own that does not outlive its parent:

python -m experiments.study.child PARENT EXPERIMENT [arguments of the experiment]
"""

import ctypes
import os
import signal
import sys
import threading
import time

from experiments import command

_PR_SET_PDEATHSIG = 1  # of prctl, Linux


def end_with(parent: int) -> None:
    """Have this process killed when its parent ends, however that ends."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError, TypeError):  # not Linux
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Run an experiment's command line."""
    _, parent, name, *arguments = sys.argv
    end_with(int(parent))
    sys.argv = [name, *arguments]
    command.main(name)


if __name__ == "__main__":
    main()
