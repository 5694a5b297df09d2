"""How images are scored: feature networks, distances, their uncertainty, the calibration on real images."""
