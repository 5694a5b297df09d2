"""What work runs on: devices, processes, locks, signals, random numbers."""
