"""The page into which `dvc plots` writes. DVC's own loads Vega from the network; this one carries it."""

import subprocess
import sys
from pathlib import Path

import vl_convert

from surrodiff.errors import UserError
from surrodiff.store.runs import write_text

PAGE = Path(".dvc/tmp/plots.html")


def write():
    """Write PAGE below the current folder, with the Vega that the package vl-convert ships, and have DVC use it here.

    Where it was never written, DVC uses .dvc/plots.html, which says what to run. Raises UserError outside a repository.
    """
    if not Path(".dvc/config").exists():
        raise UserError(".dvc/config: not in this folder; run this in the repository's folder")
    # The templates in .dvc/plots are Vega-Lite 5.
    vega = vl_convert.javascript_bundle(vl_version="5.21")
    style = "body { font-family: sans-serif; } table { border-spacing: 15px; }"
    head = f'<meta charset="utf-8"><title>surrodiff</title><style>{style}</style><script>{vega}</script>'
    write_text(PAGE, f"<!DOCTYPE html>\n<html>\n<head>{head}</head>\n<body>\n{{plot_divs}}\n</body>\n</html>\n")
    setting = ["config", "--local", "plots.html_template", str(PAGE.relative_to(".dvc"))]
    process = subprocess.run(
        [sys.executable, "-m", "dvc", *setting], capture_output=True, encoding="utf-8", errors="replace"
    )
    if process.returncode:
        raise UserError(f".dvc/config.local: dvc {' '.join(setting)} failed:\n{process.stdout + process.stderr}")
