"""Data sets of our own: a page each says where the texts come from; TFDS keeps them prepared."""
