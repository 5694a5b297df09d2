"""Whether the scores of real images are what they should be: known values, and corruption seen in its order."""

import math
from dataclasses import dataclass
from itertools import combinations, groupby

from surrodiff.scoring.uncertainty import jackknife_groups, student_95

# Frechet distance of the test to the training split and Inception Score of the training split, and how far ours may be
# from them: CIFAR-10, 2015 Inception, resized as TensorFlow 1 did.
KNOWN = {("cifar10", "inception"): {"frechet_distance": (3.15, 0.02), "is_mean": (11.24, 0.05)}}


@dataclass(frozen=True)
class Check:
    """One thing that a calibration must show, in words with its numbers; `passed` None: nothing is known to compare."""

    text: str
    passed: bool | None


def _interval(a: dict, b: dict) -> float:
    """Half of the 95 % interval of the difference of two rows' distances to the training split, by Student's t.

    Their errors count as independent. Copies of the same images err together, so that the interval is rather too wide.
    """
    degrees = jackknife_groups(min(a["num_images"], b["num_images"])) - 1
    return student_95(degrees) * math.hypot(a["train"]["frechet_error"], b["train"]["frechet_error"])


def _order(kind: str, series: list[tuple[float, dict]]) -> Check:
    """Whether the distance grows with the amount of a corruption: it fails where one is smaller than that of a lesser
    amount by more than the interval of their difference."""
    numbers = ", ".join(f"{amount}: {row['train']['frechet_distance']:.4g}" for amount, row in series)
    falls = [
        (later, earlier, row["train"]["frechet_distance"] - lesser["train"]["frechet_distance"], _interval(row, lesser))
        for (earlier, row), (later, lesser) in combinations(series, 2)
        if lesser["train"]["frechet_distance"] <= row["train"]["frechet_distance"]
    ]
    descriptions = [
        f"{later} below {earlier} by {fall:.3g}, interval {interval:.3g}" for later, earlier, fall, interval in falls
    ]
    is_clear = any(fall > interval for *_, fall, interval in falls)
    text = f"the distance grows with {kind}: {numbers}"
    if descriptions:
        text += f" ({'' if is_clear else 'within interval: '}{'; '.join(descriptions)})"
    return Check(text, not is_clear)


def checks(reference: dict) -> list[Check]:
    """What the record of a reference run (see scoring.reference) shows, a check for each thing that it should."""
    rows = reference["calibration"]
    train = next(row for row in rows if row["images"] == "train")
    held_out = next(row for row in rows if row["images"] == "held_out" and row["corruption"] is None)
    distance, score = held_out["train"]["frechet_distance"], train["is_mean"]
    known = KNOWN.get((reference["data"], reference["features"]))
    if known is None:
        outcomes = [Check(f"no known values for {reference['features']} features of {reference['data']}", None)]
    else:
        (fid, fid_tolerance), (inception_score, score_tolerance) = known["frechet_distance"], known["is_mean"]
        outcomes = [
            Check(f"held-out to training split: {distance:.3f}, known {fid}", abs(distance - fid) <= fid_tolerance),
            Check(
                f"training split's Inception Score: {score:.3f}, known {inception_score}",
                abs(score - inception_score) <= score_tolerance,
            ),
        ]
    corrupted = [row for row in rows if row["corruption"] is not None]
    for kind, group in groupby(corrupted, key=lambda row: row["corruption"]):
        outcomes.append(_order(kind, [(0, held_out), *((row["amount"], row) for row in group)]))
    return outcomes
