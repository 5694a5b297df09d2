"""Samplers, one a file: from sample numbers to images, each image by its seed and number alone."""
