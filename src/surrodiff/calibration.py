"""Whether the scores of real images are what they should be: known values, and damage seen in its order."""

from dataclasses import dataclass
from itertools import groupby, pairwise

# Frechet distance of the test to the training split and Inception Score of the training split, and how far ours may be
# from them: CIFAR-10, 2015 Inception, resized as TensorFlow 1 did.
KNOWN = {("cifar10", "inception"): {"frechet_distance": (3.15, 0.02), "is_mean": (11.24, 0.05)}}


@dataclass(frozen=True)
class Check:
    """One thing that a calibration must show, in words with its numbers; `passed` None: nothing is known to compare."""

    text: str
    passed: bool | None


def checks(reference: dict) -> list[Check]:
    """What the record of a reference run (see scoring.reference) shows, a check for each thing that it should."""
    rows = reference["calibration"]
    train = next(row for row in rows if row["images"] == "train")
    held_out = next(row for row in rows if row["images"] == "held_out" and row["damage"] is None)
    distance, score = held_out["train"]["frechet_distance"], train["is_mean"]
    known = KNOWN.get((reference["data"], reference["features"]))
    if known is None:
        found = [Check(f"no known values for {reference['features']} features of {reference['data']}", None)]
    else:
        (fid, fid_room), (inception_score, score_room) = known["frechet_distance"], known["is_mean"]
        found = [
            Check(f"held-out to training split: {distance:.3f}, known {fid}", abs(distance - fid) <= fid_room),
            Check(
                f"training split's Inception Score: {score:.3f}, known {inception_score}",
                abs(score - inception_score) <= score_room,
            ),
        ]
    damaged = [row for row in rows if row["damage"] is not None]
    for kind, group in groupby(damaged, key=lambda row: row["damage"]):
        series = [(0, distance)] + [(row["amount"], row["train"]["frechet_distance"]) for row in group]
        grows = all(a < b for (_, a), (_, b) in pairwise(series))
        numbers = ", ".join(f"{amount}: {value:.4g}" for amount, value in series)
        found.append(Check(f"the distance grows with {kind}: {numbers}", grows))
    return found
