"""A training step of one layer: the loss and the gradient of all that it depends on.

The loss is sum(ys * projection); the parameters and xs have gradients. dL/dxs is compared.
"""

from experiments.speed import networks

TITLE = "Training step: one layer, the loss and all gradients"
COLUMNS = ("cell", "T", "B", "H")
ROWS = tuple((cell, *sizes) for cell in networks.CELLS for sizes in networks.SIZES)
TOLERANCE = networks.TOLERANCE
RUNNERS = networks.runners("training")
inputs, small = networks.sequence_inputs, networks.small_sequence
