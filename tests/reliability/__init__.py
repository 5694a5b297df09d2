"""What soak.py and fuzz.py share: small projects, damage, processes with limits, comparison of results."""
