"""From parameters to runs: ids, what each run needs, what outputs are made from. Pure: no torch, no Snakemake."""
