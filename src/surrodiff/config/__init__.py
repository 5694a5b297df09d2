"""What users write, typed: YAML files as values, one class for each block with its bounds. No torch."""
