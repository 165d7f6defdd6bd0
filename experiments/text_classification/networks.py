"""Config -> the Linen module of each network."""

from experiments.text_classification.config import CONVOLUTION, Config
from experiments.text_classification.corpus import Reader
from rnn_jax.models import ConvClassifier, TextClassifier


def build_model(config: Config, name: str, reader: Reader):
    """Build the Linen module of a network."""
    vocabulary_size, num_classes = reader.encoding.size, len(reader.class_names)
    if name == CONVOLUTION:
        return ConvClassifier(
            vocabulary_size=vocabulary_size,
            num_classes=num_classes,
            embedding_size=config.embedding_size,
            num_filters=config.hidden_size,
            dropout=config.dropout,
            dtype=config.dtype,
        )
    return TextClassifier(
        vocabulary_size=vocabulary_size,
        num_classes=num_classes,
        cell=name,
        hidden_size=config.hidden_size,
        embedding_size=config.embedding_size,
        num_layers=config.num_layers,
        is_bidirectional=config.bidirectional,
        dropout=config.dropout,
        pooling=config.pooling,
        recurrent_init=config.recurrent_init,
        recurrent_gain=config.recurrent_gain,
        forget_bias=config.forget_bias,
        dtype=config.dtype,
    )
