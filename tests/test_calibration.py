"""What a calibration must show, and that it says so when it does not."""

import math

import pytest
from records import calibration_row

from surrodiff.scoring.calibration import KNOWN, checks


def record(data="digits", features="classifier", fid=3.1508, score=11.24, noise=(5.0, 20.0, 90.0)) -> dict:
    rows = [calibration_row("train", "held_out", fid, is_mean=score), calibration_row("held_out", "train", fid)]
    rows += [calibration_row("held_out", "train", d, "noise", n) for n, d in zip((4, 16, 64), noise, strict=True)]
    rows.append(calibration_row("held_out", "train", 40.0, "classes left out", 1))
    return {"data": data, "features": features, "calibration": rows}


def series(*numbers: tuple[float, float]) -> dict:
    """A record whose distances under noise, from none on, and their standard errors are these."""
    reference = record(noise=[distance for distance, _ in numbers[1:]], fid=numbers[0][0])
    rows = [r for r in reference["calibration"] if r["images"] == "held_out" and r["corruption"] in (None, "noise")]
    for row, (_, error) in zip(rows, numbers, strict=True):
        row["train"]["frechet_error"] = error
    return reference


def noise_check(*numbers: tuple[float, float]):
    (noise,) = (check for check in checks(series(*numbers)) if "with noise" in check.text)
    return noise


def verdicts(outcomes) -> list[bool | None]:
    return [check.passed for check in outcomes]


def test_the_published_values_pass():
    assert verdicts(checks(record("cifar10", "inception"))) == [True, True, True, True]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"fid": 3.25}, [False, True, True, True]),  # other resizing
        ({"score": 11.0}, [True, False, True, True]),
        ({"noise": (5.0, 20.0, 19.0)}, [True, True, False, True]),
        ({"noise": (2.5, 20.0, 90.0)}, [True, True, False, True]),  # less than with no noise at all
    ],
)
def test_a_wrong_value_fails_and_nothing_else_does(changed, expected):
    assert verdicts(checks(record("cifar10", "inception", **changed))) == expected


def test_an_order_within_its_intervals_is_no_failure():
    """10.79 after 10.85 with errors of 0.1 is what chance does: the difference's interval is 2.26 x 0.141."""
    check = noise_check((10.85, 0.1), (10.79, 0.1), (20.0, 0.1), (90.0, 0.1))
    assert check.passed
    assert "within interval: 4 below 0 by 0.06, interval 0.32" in check.text


@pytest.mark.parametrize(
    ("fall", "passed"), [(2.262 * math.hypot(0.3, 0.4) * share, share < 1) for share in (0.5, 0.99, 1.01, 3)]
)
def test_a_clear_reversal_fails_by_student_s_t_with_9_degrees(fall, passed):
    check = noise_check((5.0, 0.3), (5.0 - fall, 0.4), (20.0, 0.1), (90.0, 0.1))
    assert check.passed == passed
    assert ("within interval" in check.text) == passed


def test_small_steps_down_add_up_to_a_reversal():
    """Each within the interval of its neighbour, the last beyond that of the first."""
    check = noise_check((10.0, 0.1), (9.8, 0.1), (9.6, 0.1), (9.4, 0.1))
    assert check.passed is False
    assert noise_check((10.0, 0.1), (9.95, 0.1), (9.9, 0.1), (9.85, 0.1)).passed


@pytest.mark.parametrize(("data", "features"), [("image_folder cifar10-jpeg", "inception"), ("cifar10", "classifier")])
def test_other_data_or_features_have_no_known_values(data, features):
    assert (data, features) not in KNOWN
    outcomes = checks(record(data, features, fid=99.0, noise=(100.0, 120.0, 130.0)))
    assert verdicts(outcomes) == [None, True, False]  # without a class 40, less than with all of them
    assert "no known values" in outcomes[0].text
