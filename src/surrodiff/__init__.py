"""Diffusion generative models on small images: training, sampling with surrogates, scoring, tables and figures."""

__version__ = "0.1.0"
