"""Kinds of models: the network of each, one training step, its trained weights, and how it samples."""
