"""What an image folder is known by, its path, however it is spelt, and a fingerprint of its images; and a file with a
generator of the user's own, by its content.

The plan makes run ids of both and touches no file, so both are filled into the parameters before (see `identified`).
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

import yaml

from surrodiff.config.models import Own
from surrodiff.config.presets import Data
from surrodiff.config.surrogates import Folder
from surrodiff.config.whole import Params
from surrodiff.data import image_folders
from surrodiff.data.listing import Listing, list_files
from surrodiff.errors import UserError, printable

DEPENDENCY = "image_folder"  # of `vars` in dvc.yaml: the folder that DVC's stages depend on


def expanded(path: str, key: str = "data.path") -> Path:
    """A path of params.yaml, under a key, with ~ and ~user replaced; raises UserError if that user has no home
    directory here."""
    expanded_path = os.path.expanduser(path)
    if expanded_path.startswith("~"):
        raise UserError(f"{key}: {path!r} names no home directory here; write the whole path")
    return Path(expanded_path)


def normalised(path: str, here: Path, key: str = "data.path") -> str:
    """One spelling of a path, links resolved: from `here` if it lies below, so that a repository may be moved;
    else from the root. Raises UserError as `expanded` does."""
    real_path = Path(os.path.realpath(here / expanded(path, key)))
    real_here = Path(os.path.realpath(here))
    if not real_path.is_relative_to(real_here):
        return str(real_path)
    relative = str(real_path.relative_to(real_here))
    return f"./{relative}" if relative.startswith("~") else relative


def _tracked_by(folder: Path) -> tuple[Path, Path] | None:
    """The file of `dvc add` that tracks a folder or one that it lies in, and the root of its repository; else None."""
    folder, tracked = folder.resolve(), None
    for path in (folder, *folder.parents):
        if (path / ".dvc").is_dir():
            return tracked and (tracked, path)
        if tracked is None and (file := path.parent / f"{path.name}.dvc").is_file():
            tracked = file
    return None


def fingerprint(listing: Listing) -> str:
    """Hexadecimal digits that change with an image folder's images.

    They rest on names, sizes and times. But every checkout by DVC sets the times anew, so those of a folder that
    `dvc add` tracks rest on names and contents, which are read again only when names, sizes or times have changed.
    """
    tracked = _tracked_by(listing.root)
    by_times = listing.fingerprint()
    if tracked is None:
        return by_times
    name = hashlib.sha256(os.fsencode(listing.root.resolve())).hexdigest()[:16]
    cache_file = tracked[1] / ".dvc" / "tmp" / "surrodiff" / f"{name}.json"
    with suppress(OSError, ValueError, LookupError, TypeError):
        cached = json.loads(cache_file.read_text(encoding="utf-8"))
        if cached["times"] == by_times:
            return str(cached["contents"])
    by_contents = listing.content_fingerprint()
    with suppress(OSError):  # what cannot be kept is computed again
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache_file.with_name(f"{cache_file.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"times": by_times, "contents": by_contents}), encoding="utf-8")
        os.replace(temporary, cache_file)
    return by_contents


def _check_dependency(folder: Path, tracked: Path, here: Path):
    """Raise UserError if this project's dvc.yaml does not make its stages depend on a tracked folder."""
    try:
        document = yaml.safe_load((here / "dvc.yaml").read_text(encoding="utf-8"))
        (declared,) = (
            block[DEPENDENCY] for block in document["vars"] if isinstance(block, dict) and DEPENDENCY in block
        )
        dependency = here / declared
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return  # another project's
    if not folder.resolve().is_relative_to(dependency.resolve()):
        relative = printable(os.path.relpath(folder.resolve(), here.resolve()))
        raise UserError(
            f"{printable(str(folder))}: tracked by {printable(tracked.name)}, and DVC's stages do not depend on it; "
            f"write `{DEPENDENCY}: {relative}` under `vars` in dvc.yaml"
        )


def identified(params: Params, here: Path = Path()) -> Params:
    """Parameters in which the selected preset's image folders have their normalised paths and their fingerprints, and
    its generators of the user's own the SHA-256 of their files, as far as its studies use them; what is there stays, so
    that jobs use what was planned.

    here: the folder from which relative paths are meant. Raises UserError if a folder or file is missing, cannot be
    read, or a folder's splits and classes cannot be determined.
    """
    preset = params.selected
    lines = [line for study in params.made(preset).values() for line in params.lines(study)]
    used = {name for line in lines for name in (line.model, line.surrogate)}
    used_data = {getattr(preset.models.get(name), "data", None) for name in used}
    data = _identified_data(preset.data, here)
    datasets = {name: _identified_data(preset.datasets[name], here) for name in preset.datasets.keys() & used_data}
    models = {
        name: _identified_file(model, f"models.{name}.file", here)
        for name, model in preset.models.items()
        if name in used and isinstance(model, Own)
    }
    surrogates = {
        name: _identified_folder(surrogate, name, preset.sampling.num_samples, here)
        for name, surrogate in preset.surrogates.items()
        if name in used and isinstance(surrogate, Folder)
    }
    changed = {
        "data": data,
        "datasets": preset.datasets | datasets,
        "models": preset.models | models,
        "surrogates": preset.surrogates | surrogates,
    }
    if all(value == getattr(preset, key) for key, value in changed.items()):
        return params
    selected = preset.model_copy(update=changed)
    return params.model_copy(update={"presets": {**params.presets, params.preset: selected}})


def _identified_data(data: Data, here: Path) -> Data:
    if data.source != "image_folder":
        return data
    path, known_fingerprint = normalised(data.path, here), data.fingerprint
    if known_fingerprint is None:
        folder = image_folders.find(Path(path))
        if tracked := _tracked_by(Path(path)):
            _check_dependency(Path(path), tracked[0], here)
        known_fingerprint = fingerprint(folder.listing)
    return data.model_copy(update={"path": path, "fingerprint": known_fingerprint})


def _identified_folder(source: Folder, name: str, count: int, here: Path) -> Folder:
    path, known_fingerprint = normalised(source.path, here, f"surrogates.{name}.path"), source.fingerprint
    if known_fingerprint is None:
        listing = list_files(Path(path), f"surrogates.{name}.path")
        if len(listing.files) < count:
            raise UserError(
                f"surrogates.{name}.path: {printable(source.path)} has {len(listing.files)} images, and "
                f"sampling.num_samples is {count}; make more, or lower it"
            )
        if tracked := _tracked_by(Path(path)):
            _check_dependency(Path(path), tracked[0], here)
        known_fingerprint = fingerprint(listing)
    return source.model_copy(update={"path": path, "fingerprint": known_fingerprint})


def _identified_file(model: Own, key: str, here: Path) -> Own:
    if model.sha256 is not None:
        return model
    path = normalised(model.file, here, key)
    try:
        code = (here / path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{key}: {printable(model.file)}: {error.strerror}; write the path of a file that holds a class `Generator`"
        ) from None
    return model.model_copy(update={"file": path, "sha256": hashlib.sha256(code).hexdigest()})
