"""Flax Linen shells around the pure cells: what reads tokens and puts out logits.

embedding.py     tokens -> vectors, nothing past a length
recurrent.py     one recurrent layer, in one direction or both
layers.py        stacked layers as plain parameters, without Linen
pooling.py       outputs over time -> one vector a text
classifier.py    TextClassifier: embedding, recurrent layers, pooling, readout
language_model.py LanguageModel: embedding, recurrent layers, readout at every step
convolution.py   ConvClassifier: the yardstick without a recurrence
flow.py          the gradient through time of every recurrent layer

``init`` and ``apply`` are pure functions. A cell's parameters are one Linen parameter, its
NamedTuple. Batches are batch-major (tokens [B, T]); they are swapped once, in the model.
"""

from rnn_jax.models.classifier import TextClassifier
from rnn_jax.models.convolution import ConvClassifier
from rnn_jax.models.flow import layer_flows, layer_names, prediction_flows
from rnn_jax.models.language_model import LanguageModel
from rnn_jax.models.layers import Layers, unroll_layers

__all__ = [
    "ConvClassifier",
    "LanguageModel",
    "Layers",
    "TextClassifier",
    "layer_flows",
    "layer_names",
    "prediction_flows",
    "unroll_layers",
]
