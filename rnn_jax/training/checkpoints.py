"""Checkpoints of a training, by orbax: the last few and the best, none of them torn.

    folder/<step>/          what orbax wrote
    folder/<step>.json      our mark, written last: the digest of every file, what it belongs to,
                            how long the training's log was then and the digest of so much of it

A checkpoint counts by its mark alone, and its files are read only once they, and the log, are those
of the mark: one that was torn or altered is removed, and the one before it taken.
"""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from rnn_jax.files import decoded_size, links, parse_json, read_text, write_text
from rnn_jax.training.step import TrainState

RECORD = {"belongs_to": str, "files": dict, "log_bytes": int, "log_digest": str}  # of a mark


class CheckpointError(ValueError):
    """A checkpoint that cannot be used."""


class Checkpoints(NamedTuple):
    """The checkpoints in a folder."""

    folder: Path
    log: Path  # rows of the training: a checkpoint and the log up to it belong together
    belongs_to: str  # a hash: of what trained, on what
    keep_last: int = 2  # at least: one is being written while the one before it counts
    warn: Callable[[str], None] = print

    def save(self, state: TrainState, score: float | None = None) -> None:
        """Keep a state under its step.

        Args:
          state: what to keep.
          score: of the validation split, where it was measured; higher is better. The one with the
            highest is kept however old it is, of equals the latest.
        """
        from orbax import checkpoint as ocp

        tree = jax.device_get(state)
        step = int(tree.step)
        self._remove(step)  # a torn one, or one from before what this training was begun anew
        try:
            with self._manager() as manager:
                manager.save(
                    step,
                    args=ocp.args.PyTreeSave(_named(tree)),
                    metrics={"score": -math.inf if score is None else score},
                    force=True,
                )
                kept = set(manager.all_steps())
        except (ValueError, RuntimeError) as error:  # what tensorstore makes of a full disk
            reason = str(error).splitlines()[0][:200]
            raise OSError(errno.EIO, reason, str(self.folder / str(step))) from None
        log_bytes = self.log.stat().st_size if self.log.exists() else 0
        record = {
            "belongs_to": self.belongs_to,
            "files": _digests(self.folder / str(step)),
            "log_bytes": log_bytes,
            "log_digest": self._log_digest(log_bytes),
        }
        write_text(self._mark(step), json.dumps(record, indent=1) + "\n")
        for old in set(self.steps()) - kept:
            self._mark(old).unlink()

    def steps(self) -> list[int]:
        """List the steps that are kept, in order."""
        marks = self.folder.glob("*.json")
        return sorted(int(mark.stem) for mark in marks if mark.stem.isdecimal())

    def restore(self, like: TrainState, step: int) -> TrainState | None:
        """Read the state of a step; None where it is not there or not what was saved.

        Args:
          like: a state of the same tree: arrays or their shapes.
          step: its step.
        Raises:
          CheckpointError: it belongs to something else.
        """
        from orbax import checkpoint as ocp

        record = self._record(step)
        if record is None:
            return None
        if record["belongs_to"] != self.belongs_to:
            raise CheckpointError(
                f"the checkpoint {self.folder / str(step)} belongs to {record['belongs_to']}; "
                f"allowed: {self.belongs_to}, of these settings and this data"
            )
        damaged, folder = [], self.folder / str(step)
        if next(links(folder), None) or record["files"] != _digests(folder):
            damaged.append(f"checkpoint {folder}")
        if record["log_digest"] != self._log_digest(record["log_bytes"]):
            damaged.append(f"log {self.log}")
        named = _named(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like))
        if not damaged and not _holds(folder / "default", named):
            damaged.append(f"checkpoint {folder}, which has other arrays")
        if damaged:
            self.warn(f"damaged, not used: {', '.join(damaged)}")
            return None
        restore_args = ocp.checkpoint_utils.construct_restore_args(named)
        # without a manager, which would remove what another process is writing just now
        try:
            handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())
            with ocp.Checkpointer(handler, multiprocessing_options=_alone()) as checkpointer:
                found = checkpointer.restore(
                    (folder / "default").resolve(),
                    args=ocp.args.PyTreeRestore(named, restore_args=restore_args),
                )
        except (ValueError, KeyError, TypeError, RuntimeError) as error:  # of other metadata
            reason = " ".join(str(error).split())[:200]
            self.warn(f"damaged, not used: checkpoint {folder} ({reason})")
            return None
        return _unnamed(found, like)

    def restore_latest(self, like: TrainState) -> TrainState | None:
        """Read the latest state that is whole; what is not is removed. None: there is none."""
        for path in self.folder.iterdir() if self.folder.exists() else ():
            if path.is_dir() and path.name.isdecimal() and not self._mark(int(path.name)).exists():
                shutil.rmtree(path, ignore_errors=True)
        for step in reversed(self.steps()):
            state = self.restore(like, step)
            if state is not None:
                return state
            self._remove(step)
        return None

    def cut_log(self, step: int) -> None:
        """Cut the log back to where it was when this step was kept; to nothing at step 0."""
        record = self._record(step)
        if self.log.exists():
            end = record["log_bytes"] if record and step else 0
            os.truncate(self.log, min(end, self.log.stat().st_size))

    def clear(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _log_digest(self, num_bytes: int) -> str:
        """Hash the beginning of the log; "" where it is shorter."""
        data = self.log.read_bytes()[:num_bytes] if self.log.exists() else b""
        return hashlib.sha256(data).hexdigest() if len(data) == num_bytes else ""

    def _mark(self, step: int) -> Path:
        return self.folder / f"{step}.json"

    def _record(self, step: int) -> dict | None:
        try:
            record = parse_json(read_text(self._mark(step)))
            is_sound = all(type(record[key]) is kind for key, kind in RECORD.items())
            is_sound = is_sound and record["log_bytes"] >= 0 and record["log_digest"] != ""
            return {key: record[key] for key in RECORD} if is_sound else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remove(self, step: int) -> None:
        self._mark(step).unlink(missing_ok=True)
        shutil.rmtree(self.folder / str(step), ignore_errors=True)

    def _manager(self):
        from orbax import checkpoint as ocp

        def score(metrics: dict) -> float:
            return metrics["score"]

        policies = ocp.checkpoint_managers
        best = policies.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=score,  # without it the scores are not written
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(self.keep_last), best]
            ),
            enable_async_checkpointing=False,
            multiprocessing_options=_alone(),
            create=False,
            cleanup_tmp_directories=True,  # what a killed process left
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(self.folder.resolve(), options=options)


def _alone():
    """Have orbax wait for no other process, where several share a training."""
    from orbax import checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})


def _digests(folder: Path) -> dict[str, str]:
    """Hash every file under a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _holds(folder: Path, named: dict[str, np.ndarray]) -> bool:
    """Tell whether a checkpoint holds these arrays, of their size: orbax would read any it finds.

    They are zarr arrays in what tensorstore calls OCDBT, a folder of keys and values.
    """
    import tensorstore

    if any(path.name in (".zarray", "zarr.json") for path in folder.rglob("*")):
        return False  # arrays in files of their own, which orbax reads too
    try:
        place = {"driver": "ocdbt", "base": f"file://{folder.resolve()}/"}
        kept = tensorstore.KvStore.open(place).result()
        keys = [key.decode().rpartition("/") for key in kept.list().result()]
        if {name for name, _, _ in keys} != named.keys():
            return False
        chunk_bytes = {}
        for name, like in named.items():
            found = parse_json(kept.read(f"{name}/.zarray").result().value)
            sizes = zip(found["chunks"], like.shape, strict=True)
            is_as_expected = (
                found["shape"] == list(like.shape)
                and all(0 < chunk <= max(size, 1) for chunk, size in sizes)
                and found["dtype"] in (like.dtype.str, like.dtype.name)  # the name: of bfloat16
                and found["compressor"]["id"] == "zstd"
                and not found["filters"]
            )
            if not is_as_expected:
                return False
            chunk_bytes[name] = math.prod(found["chunks"]) * like.dtype.itemsize
        return all(
            decoded_size("zstd", kept.read(f"{name}/{chunk}").result().value) == chunk_bytes[name]
            for name, _, chunk in keys
            if chunk != ".zarray"
        )
    except (ValueError, KeyError, TypeError):  # of another kind than ours
        return False


def _named(tree) -> dict[str, np.ndarray]:
    """Give every leaf its path as a name; orbax takes none that is empty."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if leaf.size}


def _unnamed(named: dict[str, np.ndarray], like):
    """Put the leaves back into their tree."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: named.get(jax.tree_util.keystr(path), leaf), like
    )
