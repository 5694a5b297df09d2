"""Folders of images: of which split and class each image is, as the subfolders say."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from surrodiff.data.listing import MOST_NAMED, Listing, list_files
from surrodiff.errors import UserError, printable

# As folders are named in any case, and with or without -, _ and spaces.
TRAIN_NAMES = {"train", "training", "trainset", "trainingset"}
HELD_OUT_NAMES = {"test", "testing", "testset", "val", "valid", "validation", "valset", "validationset"}
HELD_OUT_NAMES |= {"dev", "devset", "eval", "evaluation", "evalset", "heldout", "holdout"}
MOST_CLASSES = 20  # in a log


@dataclass(frozen=True)
class ImageFolder:
    """A folder's images by split (`train`, and `held_out` if it has one), each with its label.

    classes: the names whose ranks are the labels, in all splits; empty in a flat folder, whose label is 0.
    """

    listing: Listing
    classes: list[str]
    splits: dict[str, list[tuple[str, int]]]

    def counts(self) -> dict[str, dict[str, int]]:
        """How many images each class has in each split."""
        counters = {split: Counter(label for _, label in images) for split, images in self.splits.items()}
        return {
            printable(name): {split: count[label] for split, count in counters.items()}
            for label, name in enumerate(self.classes)
        }

    def ignored(self) -> dict[str, dict]:
        """How many files and folders are left out by reason (`count`), with the first of them (`such_as`)."""
        return {reason: vars(ignored) for reason, ignored in sorted(self.listing.ignored.items())}

    def description(self) -> str:
        """What was found, in lines for a log."""
        lines = [f"{split}: {len(images)} images" for split, images in self.splits.items()]
        counts = [f"{name} ({' + '.join(map(str, by_split.values()))})" for name, by_split in self.counts().items()]
        if counts:
            rest = f" and {len(counts) - MOST_CLASSES} more" if len(counts) > MOST_CLASSES else ""
            lines.append(f"{len(counts)} classes: {', '.join(counts[:MOST_CLASSES])}{rest}")
        for reason, ignored in sorted(self.listing.ignored.items()):
            lines.append(f"ignored: {ignored.count} ({reason}), such as {', '.join(ignored.such_as)}")
        return "\n".join(f"{printable(str(self.listing.root))}: {line}" for line in lines)


def find(root: Path) -> ImageFolder:
    """The images below a folder with their splits and classes, which its subfolders say.

    Raises UserError unless it holds images alone, or class folders alone, or a training split with or without a
    held-out one, each of which holds one of the two.
    """
    listing = list_files(root)
    if not listing.files:
        ignored = ", ".join(f"{ignored.count} ({reason})" for reason, ignored in sorted(listing.ignored.items()))
        raise UserError(
            f"{printable(str(root))}: holds no images{f' (ignored: {ignored})' if ignored else ''}; data.path must "
            "name a folder of images or of class folders"
        )
    with_images = listing.with_images()
    for folder in listing.folders:
        if folder not in with_images:
            listing.ignore(folder, "folder without images")
    parts = _splits(listing)
    for prefix, paths in parts.values():
        _check_level(root, prefix, paths, with_images)
    folders = {split: [_class_folder(path, prefix) for path in paths] for split, (prefix, paths) in parts.items()}
    names = _class_names(root, {name for split_folders in folders.values() for name in split_folders if name})
    if names and not all(all(split_folders) for split_folders in folders.values()):
        raise UserError(f"{printable(str(root))}: one split has class folders and the other has none; make them alike")
    rank = {name: label for label, name in enumerate(sorted(set(names.values())))}
    labels = {
        split: [rank[names[name]] if name else 0 for name in split_folders] for split, split_folders in folders.items()
    }
    splits = {split: list(zip(paths, labels[split], strict=True)) for split, (_, paths) in parts.items()}
    return ImageFolder(listing, list(rank), splits)


def _plain(path: str) -> str:
    """A folder's name as names of splits are compared."""
    return "".join(c for c in os.path.basename(path).casefold() if c not in "-_ ")


def _named(names: Iterable[str]) -> str:
    """Names in a message, of many the first."""
    names = [printable(name, 60) for name in names]
    rest = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + rest


def _class_folders(paths: Iterable[str], prefix: str) -> list[str]:
    """The folders in which paths lie, right below a split's folder; without those that lie in that itself."""
    return list(dict.fromkeys(name for path in paths if (name := _class_folder(path, prefix))))


def _class_folder(path: str, prefix: str) -> str:
    """The folder right below a split's folder in which a path lies; empty if it lies in that itself."""
    first, slash, _ = path[len(prefix) :].partition("/")
    return first if slash else ""


def _splits(listing: Listing) -> dict[str, tuple[str, list[str]]]:
    """The folder of each split, empty or ending in a slash, and the paths of its images."""
    root, paths = printable(str(listing.root)), [file.path for file in listing.files]
    folders = [path for path in listing.folders if "/" not in path]
    train = [name for name in folders if _plain(name) in TRAIN_NAMES]
    held_out = [name for name in folders if _plain(name) in HELD_OUT_NAMES]
    if not train and not held_out:
        return {"train": ("", paths)}
    classes = [name for name in _class_folders(paths, "") if name not in (*train, *held_out)]
    loose = [path for path in paths if "/" not in path]
    if classes or loose:
        what = f"class folders ({_named(classes)})" if classes else f"loose images ({_named(loose)})"
        raise UserError(
            f"{root}: {_named([*train, *held_out])}, named like a split, beside {what}; move these into the splits or "
            "away, or rename that folder if it is a class"
        )
    for kind, names in {"training": train, "held-out": held_out}.items():
        if len(names) > 1:
            raise UserError(f"{root}: several {kind} splits ({_named(names)}); leave one of them in this folder")
    if not train:
        raise UserError(
            f"{root}: a held-out split ({_named(held_out)}) and no training split beside it; add `train`, or name "
            f"{root}/{_named(held_out)} in data.path, of which data.held_out is then held out"
        )
    parts = {}
    for split, names in {"train": train, "held_out": held_out}.items():
        for name in names:
            parts[split] = (f"{name}/", [path for path in paths if path.startswith(f"{name}/")])
            if not parts[split][1]:
                raise UserError(f"{root}/{printable(name)}: this split holds no images; fill it or remove its folder")
    return parts


def _check_level(root: Path, prefix: str, paths: list[str], folders: set[str]):
    """Raise UserError if what lies in a split's folder can be read in two ways. folders: all that hold images."""
    where = printable(os.path.join(root, prefix).rstrip("/"))
    loose = [path[len(prefix) :] for path in paths if not _class_folder(path, prefix)]
    classes = _class_folders(paths, prefix)
    if loose and classes:
        raise UserError(
            f"{where}: images ({_named(loose)}) beside class folders ({_named(classes)}); move them into class "
            "folders or away"
        )
    inside = [path[len(prefix) :] for path in sorted(folders) if path.startswith(prefix)]
    if splits := [path for path in inside if _plain(path) in TRAIN_NAMES | HELD_OUT_NAMES]:
        raise UserError(
            f"{where}: {_named(splits)}, named like a split, where class folders should be; name the folder that "
            "holds the splits in data.path, or rename that folder if it is no split"
        )
    inner = _class_folders(paths, f"{prefix}{classes[0]}/") if len(classes) == 1 else []
    if len(inner) > 1 and all(_class_folder(path, f"{prefix}{classes[0]}/") for path in paths):
        raise UserError(
            f"{where}: holds one folder ({_named(classes)}), which holds only folders ({_named(inner)}); if these are "
            f"the classes, name {where}/{_named(classes)} in data.path, else put all images into one folder"
        )


def _class_names(root: Path, folders: set[str]) -> dict[str, str]:
    """Class folders' names in composed Unicode, in which equal names are equal wherever they were typed.

    Raises UserError if two of them differ in case alone.
    """
    composed = {name: unicodedata.normalize("NFC", name) for name in folders}
    seen: dict[str, str] = {}
    for name in sorted(composed.values()):
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise UserError(
                f"{printable(str(root))}: class folders {_named([other, name])} differ only in upper and lower case; "
                "merge them or rename one"
            )
    return composed
