"""Images: from their sources to uint8 arrays, pixels as floats and back, many images as one."""
