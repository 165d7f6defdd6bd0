"""Figures: a dataset in, a Figure out; nothing is computed here but what a picture needs."""
