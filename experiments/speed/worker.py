"""The other end of ``serve.py``: a library's process, started when asked and ended for certain."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from experiments.command import before_leaving
from experiments.speed import jobs
from experiments.speed.libraries import LIBRARIES
from rnn_jax.devices import num_cores
from rnn_jax.results import ROOT


class LibraryError(Exception):
    """A library is not installed, crashed or gave no answer: one line."""


class Worker:
    """One library's process, a context manager; after a failure the next question restarts it."""

    def __init__(self, table: str, library: str, precision: str, timeout: float):
        self.library, self.timeout = library, timeout
        self.arguments = [table, library, str(num_cores()), precision]
        self.process: Any = None  # a Popen with pipes while it runs
        self.missing: str | None = None
        self.description: dict = {}

    def __enter__(self):
        self.at_end = contextlib.ExitStack()
        self.at_end.enter_context(before_leaving(self.stop))  # ctrl-C leaves without __exit__
        self.at_end.callback(self.stop)
        return self

    def __exit__(self, *error):
        self.at_end.close()

    def ask(self, do: str, **command) -> dict:
        """Send a command and wait for its answer; LibraryError or NotOffered if it has none."""
        self.start()
        try:
            self.process.stdin.write(json.dumps({"do": do, **command}).encode() + b"\n")
        except BrokenPipeError:
            self._fail(self._last_words())
        return self._answer()

    def start(self) -> None:
        if self.missing:
            raise LibraryError(self.missing)
        if self.process:
            return
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments.speed.serve", *self.arguments],
            bufsize=0,
            cwd=ROOT,
            env=LIBRARIES[self.library].environment | os.environ,
            start_new_session=True,  # ctrl-C reaches the parent alone, which ends this process
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        try:
            self.description = self._answer()
        except LibraryError as error:
            self.missing = str(error)  # what cannot start is not tried again
            raise

    def stop(self) -> None:
        if self.process:
            self._end_group()
            self.process.stdin.close()
            self.process.stdout.close()
            self.errors.close()
            self.process = None

    def _end_group(self) -> None:
        """End the process and all that it started, such as the compilers of an extension.

        ninja ends its compilers, which are in groups of their own, on SIGTERM alone.
        """
        group = self.process.pid
        # no one is left; macOS says PermissionError of those that ended
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGTERM)
            end = time.monotonic() + 1
            while time.monotonic() < end:
                self.process.poll()  # an ended process is in its group until it is asked
                os.killpg(group, 0)
                time.sleep(0.01)
            os.killpg(group, signal.SIGKILL)
        self.process.wait()

    def _answer(self) -> dict:
        line, stdout, end = b"", self.process.stdout, time.monotonic() + self.timeout
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self._fail(f"no answer within {self.timeout:g} s")
            piece = os.read(stdout.fileno(), 1 << 16)
            if not piece:
                self._fail(self._last_words())
            line += piece
        answer = json.loads(line)
        if "missing" in answer:
            raise jobs.NotOffered(answer["missing"])
        if "error" in answer:
            self._fail(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        words = self.errors.read().decode(errors="replace").split("\n")
        return f"ended with code {code}: " + next((w for w in reversed(words) if w.strip()), "")

    def _fail(self, message: str):
        self.stop()
        raise LibraryError(" ".join(message.split())[:200])
