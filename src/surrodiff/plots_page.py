"""The page into which `dvc plots` writes. DVC's own loads Vega from the network; this one carries it."""

from pathlib import Path

import vl_convert

from surrodiff.runs import write_text

PAGE = Path(".dvc/tmp/plots.html")  # named in .dvc/config


def write():
    """Write PAGE below the current folder, with the Vega that the package vl-convert ships."""
    # The templates in .dvc/plots are Vega-Lite 5.
    vega = vl_convert.javascript_bundle(vl_version="5.21")
    style = "body { font-family: sans-serif; } table { border-spacing: 15px; }"
    head = f'<meta charset="utf-8"><title>surrodiff</title><style>{style}</style><script>{vega}</script>'
    write_text(PAGE, f"<!DOCTYPE html>\n<html>\n<head>{head}</head>\n<body>\n{{plot_divs}}\n</body>\n</html>\n")
