"""Where a training runs: on one device, or with every batch cut over several, of several processes.

The parameters and the optimizer are on every device, each device reads its own rows of the batch,
and XLA adds the gradients up once a step (data parallelism by jax.sharding). The rows are those of
one device, dropout included, and the loss is the mean over all of them; only sums are added in
another order.

Over several processes (jax.distributed) every one makes the whole batch, which follows from seed
and epoch, and gives its part. The first leads: it alone reads and writes files. What is kept is
whole, as one device would keep it, so any number of devices can go on from it.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rnn_jax.training.step import TrainState


@dataclasses.dataclass(frozen=True)
class Placement:
    """The devices of a training; without a mesh one, whichever is the default."""

    mesh: Mesh | None = None

    @property
    def is_shared(self) -> bool:
        """Tell whether other processes have a part in it."""
        return self.mesh is not None and self.mesh.is_multi_process

    @property
    def leads(self) -> bool:
        """Tell whether this process reads and writes the files."""
        return not self.is_shared or jax.process_index() == 0

    def used(self) -> contextlib.AbstractContextManager:
        """Have what is traced and called inside run there."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    def shardings(self) -> Any:
        """Say where each part of a state lies, as a TrainState; None: on one device."""
        if self.mesh is None:
            return None
        everywhere: Any = NamedSharding(self.mesh, PartitionSpec())
        by_batch: Any = NamedSharding(self.mesh, PartitionSpec("batch"))
        return TrainState(*[everywhere] * len(TrainState._fields))._replace(carried=by_batch)

    def put(self, state: TrainState) -> TrainState:
        """Put a whole state there."""
        return TrainState(
            **{
                name: self.cut(part) if name == "carried" else self.everywhere(part)
                for name, part in state._asdict().items()
            }
        )

    def everywhere(self, tree: Any) -> Any:
        """Put a tree on every device."""
        return self._put(tree, PartitionSpec())

    def cut(self, tree: Any) -> Any:
        """Put arrays [B, ...] there, a part of the batch on each device."""
        return self._put(tree, PartitionSpec("batch"))

    def whole(self, tree: Any) -> Any:
        """Bring a tree to the host, whole; of a shared one every process must call it."""
        if not self.is_shared:
            return jax.device_get(tree)
        return jax.tree.map(_whole, tree)

    def from_leader(self, tree: Any) -> Any:
        """Give every process the tree, of numbers and arrays, that the leading one has."""
        return multihost_utils.broadcast_one_to_all(tree) if self.is_shared else tree

    def anywhere(self, is_so: bool) -> bool:
        """Tell whether it is so in any process; every process must call it."""
        return bool(multihost_utils.process_allgather(np.int32(is_so)).any())

    def _put(self, tree: Any, spec: PartitionSpec) -> Any:
        if self.mesh is None:
            return tree
        sharding = NamedSharding(self.mesh, spec)

        def put(leaf):
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                data = put(jax.random.key_data(leaf))
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
            leaf = np.asarray(leaf)
            return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)

        return jax.tree.map(put, tree)


ONE_DEVICE = Placement()


def cut_over(devices: Sequence[jax.Device], batch_size: int) -> Placement:
    """Have every batch cut over these devices, as many rows on each.

    Raises:
      ValueError: ``batch_size`` is no multiple of their number; one line.
    """
    if batch_size % len(devices):
        raise ValueError(
            f"batch_size is {batch_size}; allowed: multiples of {len(devices)}, the devices that "
            "share a batch"
        )
    return Placement(jax.make_mesh((len(devices),), ("batch",), (AxisType.Auto,), devices=devices))


def _whole(leaf: Any) -> np.ndarray:
    if leaf.is_fully_replicated:
        return np.asarray(leaf)
    return multihost_utils.process_allgather(leaf, tiled=True)
