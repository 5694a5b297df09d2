"""What lies in a folder of images: files by suffix, what is ignored and why, and a fingerprint of it."""

import hashlib
import os
import stat
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from surrodiff.errors import UserError, printable

# Pillow knows these when it sees them, and cannot read their pixels by itself (EPS: Ghostscript can; WMF: Windows can).
UNREADABLE_FORMATS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"}
MOST_NAMED = 3  # of many files or folders, in a message
FINGERPRINT_DIGITS = 32


@cache
def suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of the formats that Pillow reads."""
    from PIL import Image

    Image.init()
    # Pillow reads .mpo as the JPEG file that it begins with, and registers the suffix for writing alone.
    readable = set(Image.OPEN) - UNREADABLE_FORMATS | {"MPO"}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


class ImageFile(NamedTuple):
    """An image by its path below the folder, with its bytes and the time of its last change in nanoseconds."""

    path: str
    size: int
    time: int


@dataclass
class Ignored:
    """How many files and folders are left out for one reason, and the first of them."""

    count: int = 0
    such_as: list[str] = field(default_factory=list)

    def add(self, path: str):
        self.count += 1
        if len(self.such_as) < MOST_NAMED:
            self.such_as.append(printable(path, 60))


@dataclass
class Listing:
    """What lies below a folder: images and folders by their paths, in order, and by reason what is ignored."""

    root: Path
    files: list[ImageFile] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    ignored: dict[str, Ignored] = field(default_factory=dict)

    def with_images(self) -> set[str]:
        """The folders that hold images at any depth."""
        folders = set()
        for file in self.files:
            folder = os.path.dirname(file.path)
            while folder and folder not in folders:
                folders.add(folder)
                folder = os.path.dirname(folder)
        return folders

    def ignore(self, path: str, reason: str):
        self.ignored.setdefault(reason, Ignored()).add(path)

    def fingerprint(self) -> str:
        """Hexadecimal digits that change with any image's name, size or time."""
        lines = (b"%s\0%d\0%d\0" % (os.fsencode(file.path), file.size, file.time) for file in self.files)
        return hashlib.sha256(b"".join(lines)).hexdigest()[:FINGERPRINT_DIGITS]

    def content_fingerprint(self) -> str:
        """Hexadecimal digits that change with any image's name or bytes. Raises UserError if one cannot be read."""
        hasher = hashlib.sha256()
        for file in self.files:
            try:
                with open(self.root / file.path, "rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise _unreadable(self.root / file.path, error) from None
            hasher.update(b"%s\0%s\0" % (os.fsencode(file.path), digest.encode()))
        return hasher.hexdigest()[:FINGERPRINT_DIGITS]


def _unreadable(path: Path | str, error: OSError) -> UserError:
    return UserError(f"{printable(str(path))}: cannot be read ({error.strerror}); mend it or take it away")


def list_files(root: Path, key: str = "data.path") -> Listing:
    """All files below a folder, links followed. Names that begin with a dot, and __MACOSX, are ignored, and so is every
    file without an image's suffix. key: what names the folder, for messages.

    Raises UserError if a folder cannot be read, a link leads nowhere, or a folder holds a link to one that it lies in.
    """
    try:
        status = os.stat(root)
    except OSError as error:
        raise UserError(f"{printable(str(root))}: {_missing(root, error, key)}") from None
    if not stat.S_ISDIR(status.st_mode):
        kind = "an archive; unpack it:" if root.suffix.lower() in ARCHIVES else "a file, and no folder;"
        raise UserError(f"{printable(str(root))}: {kind} {key} must name a folder of images or of class folders")
    listing = Listing(root)
    _list(listing, str(root), "", frozenset({(status.st_dev, status.st_ino)}))
    return listing


def _missing(root: Path, error: OSError, key: str) -> str:
    """Why a folder is not there, and what to do."""
    if isinstance(error, FileNotFoundError) and root.name and root.with_name(f"{root.name}.dvc").is_file():
        return "no such folder, but DVC tracks it: `dvc pull` brings it"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"no such folder; {key} must name a folder of images or of class folders"
    return f"cannot be read ({error.strerror}); mend it, or name another folder in {key}"


def _list(listing: Listing, folder: str, prefix: str, ancestors: frozenset[tuple[int, int]]):
    """Add what lies in a folder. prefix: its path below the root; ancestors: it and the folders that it lies in."""
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from None
    known = suffixes()
    for entry in entries:
        path = prefix + entry.name
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            listing.ignore(path, "hidden")
            continue
        try:
            status = entry.stat()
        except FileNotFoundError:
            raise UserError(f"{printable(entry.path)}: a link to what is not there; mend or remove it") from None
        except OSError as error:
            raise _unreadable(entry.path, error) from None
        if stat.S_ISDIR(status.st_mode):
            identity = (status.st_dev, status.st_ino)
            if identity in ancestors:
                raise UserError(f"{printable(entry.path)}: a link to a folder that it lies in; remove it")
            listing.folders.append(path)
            _list(listing, entry.path, f"{path}/", ancestors | {identity})
        elif not stat.S_ISREG(status.st_mode):
            listing.ignore(path, "neither file nor folder")
        elif (suffix := os.path.splitext(entry.name)[1].lower()) in known:
            listing.files.append(ImageFile(path, status.st_size, status.st_mtime_ns))
        else:
            listing.ignore(path, f"suffix {printable(suffix, 30)}" if suffix else "no suffix")
