"""The forward pass of one layer: the outputs ys [T, B, H], and nothing kept for a gradient."""

from experiments.speed import networks

TITLE = "Forward pass: one layer, all outputs"
COLUMNS = ("cell", "T", "B", "H")
ROWS = tuple((cell, *sizes) for cell in networks.CELLS for sizes in networks.SIZES)
TOLERANCE = networks.TOLERANCE
RUNNERS = networks.runners("forward")
inputs, small = networks.sequence_inputs, networks.small_sequence
