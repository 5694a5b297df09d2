"""What a calibration must show, and that it says so when it does not."""

import pytest
from records import calibration_row

from surrodiff.calibration import KNOWN, checks


def record(data="digits", features="classifier", fid=3.1508, score=11.24, noise=(5.0, 20.0, 90.0)) -> dict:
    rows = [calibration_row("train", "held_out", fid, is_mean=score), calibration_row("held_out", "train", fid)]
    rows += [calibration_row("held_out", "train", d, "noise", n) for n, d in zip((4, 16, 64), noise, strict=True)]
    rows.append(calibration_row("held_out", "train", 40.0, "classes left out", 1))
    return {"data": data, "features": features, "calibration": rows}


def verdicts(found) -> list[bool | None]:
    return [check.passed for check in found]


def test_the_published_values_pass():
    assert verdicts(checks(record("cifar10", "inception"))) == [True, True, True, True]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"fid": 3.25}, [False, True, True, True]),  # other resizing
        ({"score": 11.0}, [True, False, True, True]),
        ({"noise": (5.0, 20.0, 19.0)}, [True, True, False, True]),
        ({"noise": (3.0, 20.0, 90.0)}, [True, True, False, True]),  # less than with no noise at all
    ],
)
def test_a_wrong_value_fails_and_nothing_else_does(changed, expected):
    assert verdicts(checks(record("cifar10", "inception", **changed))) == expected


@pytest.mark.parametrize(("data", "features"), [("image_folder cifar10-jpeg", "inception"), ("cifar10", "classifier")])
def test_other_data_or_features_have_no_known_values(data, features):
    assert (data, features) not in KNOWN
    found = checks(record(data, features, fid=99.0, noise=(100.0, 120.0, 130.0)))
    assert verdicts(found) == [None, True, False]  # without a class 40, less than with all of them
    assert "no known values" in found[0].text
