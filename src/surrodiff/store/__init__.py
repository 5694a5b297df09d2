"""What lies on the disk: run folders and the files in them, each whole or not there."""
