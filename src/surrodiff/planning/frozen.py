"""The parameters of one invocation of the workflow, in a file that nothing changes. Its jobs are given this file, so
that each makes what was planned, however params.yaml changes while it waits."""

import hashlib
import json
import os
from pathlib import Path

from surrodiff.config.whole import Params


def freeze(params: Params, folder: Path) -> Path:
    """Write the selected preset's parameters, defaults filled in, to a file in `folder` that is named by its content;
    returns its path. `params.load` reads it. Raises OSError if the folder cannot be written."""
    selected = params.model_copy(update={"presets": {params.preset: params.selected}})
    text = json.dumps(selected.model_dump(mode="json"), allow_nan=False)
    path = folder / f"params-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not _holds(path, text):
        folder.mkdir(parents=True, exist_ok=True)
        # In one step: workflows side by side write the same file, and jobs read it meanwhile.
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    return path


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False
