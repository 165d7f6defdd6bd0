"""One step of one layer as a streaming loop calls it: each call goes on from the last state.

The output y [B, H] is waited for; that of the first call, from the state of ``inputs``, is
compared.
"""

from experiments.speed import networks

TITLE = "One-token step: one layer, from state to state"
COLUMNS = ("cell", "B", "H")
ROWS = tuple((cell, *sizes) for cell in networks.CELLS for _, *sizes in networks.SIZES)
TOLERANCE = networks.TOLERANCE
RUNNERS = networks.runners("one_token")
inputs, small = networks.token_inputs, networks.small_token
