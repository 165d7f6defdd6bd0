"""Data: what the experiments read, from packages and from the machine itself."""
