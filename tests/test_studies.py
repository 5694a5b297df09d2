"""Studies: what a file says, as rows, shares and names that are the same for every preset."""

import itertools
import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrodiff.config import documents, params, studies
from surrodiff.config.studies import Row, Study
from surrodiff.config.training import AdversarialTraining

SHARES = st.sampled_from([1, 0.25, "1/3", "2/3", 0.5, "0.125", "7/8"])
NAMES = st.sampled_from(["Default", "DeepRes1", "IWDiff", "DDPMHalf"])
SAMPLERS = st.sampled_from(["ancestral", "clipped", "small"])


def alone_or_listed(values):
    return values | st.lists(values, min_size=1, max_size=3, unique=True)


def training(steps: int, every: int) -> AdversarialTraining:
    return AdversarialTraining(
        steps=steps,
        snapshot_every=every,
        batch_size=1,
        learning_rate=0.1,
        horizontal_flip=False,
        precision="auto",
        revision=1,
        discriminator_steps=1,
    )


@st.composite
def rows(draw) -> dict:
    """A row as it may be written, its keys in any order."""
    about = {"model": draw(alone_or_listed(NAMES))}
    if draw(st.booleans()):
        about = {"surrogate": draw(alone_or_listed(NAMES)), "t_mid": draw(alone_or_listed(SHARES))}
        about |= draw(st.fixed_dictionaries({}, optional={"handover": alone_or_listed(st.sampled_from(["x0", "x_t"]))}))
    about |= draw(
        st.fixed_dictionaries({}, optional={"steps": alone_or_listed(SHARES), "sampler": alone_or_listed(SAMPLERS)})
    )
    count = math.prod(len(value) for value in about.values() if isinstance(value, list))
    texts = st.text("ab 1.:{", min_size=1, max_size=4)
    beside = st.sampled_from(["one", "list"]).flatmap(
        lambda how: texts if how == "one" else st.lists(texts, min_size=count, max_size=count)
    )
    about |= draw(st.fixed_dictionaries({}, optional={"label": beside, "note": beside, "name": st.just("Mine")}))
    cells = st.none() | st.integers(0, 9) | st.floats(0, 9) | texts
    about |= draw(
        st.fixed_dictionaries(
            {},
            optional={"paper": st.fixed_dictionaries({"fid": cells | st.lists(cells, min_size=count, max_size=count)})},
        )
    )
    return {key: about[key] for key in draw(st.permutations(list(about)))}


def study(*written: dict, **more) -> dict:
    return {"title": "Mine", "rows": [*written], "columns": ["scores"]} | more


@given(st.lists(rows(), min_size=1, max_size=3))
def test_a_study_comes_back_as_it_was_written(written):
    first = Study.model_validate(study(*written))
    for dumped in (first.model_dump(), first.model_dump(mode="json"), json.loads(first.model_dump_json())):
        again = Study.model_validate(dumped)
        assert again == first
        assert [row.lines() for row in again.rows] == [row.lines() for row in first.rows]
        for row, before in zip(dumped["rows"], written, strict=True):
            in_order = [key for key, value in before.items() if key in studies.SWEPT and isinstance(value, list)]
            assert [key for key, value in row.items() if key in studies.SWEPT and isinstance(value, list)] == in_order


@given(rows())
def test_lists_make_a_row_for_each_combination_the_first_slowest(written):
    swept = {key: value for key, value in written.items() if key in studies.SWEPT and isinstance(value, list)}
    lines = Row.model_validate(written).lines()
    expected = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    assert [{key: getattr(line, key) for key in swept} for line in lines] == expected
    for number, line in enumerate(lines):
        for key, default in (("sampler", "ancestral"), ("steps", 1), ("handover", "x0")):
            if key not in swept:
                assert getattr(line, key) == written.get(key, default)
        for key in ("label", "note"):
            value = written.get(key, line.subject if key == "label" else "")
            assert getattr(line, key) == (value[number] if isinstance(value, list) else value)
        cell = written.get("paper", {}).get("fid")
        cell = cell[number] if isinstance(cell, list) else cell
        assert line.paper == ({} if cell is None else {"fid": cell})


@given(rows())
def test_names_tell_the_rows_of_one_entry_apart(written):
    lines = Row.model_validate(written).lines()
    assert len({line.name for line in lines}) == len(lines)


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"model": "Default"}, ["Default"]),
        ({"model": ["Default", "IWDiff"]}, ["Default", "IWDiff"]),
        ({"model": "Default", "steps": 0.5}, ["Default"]),
        ({"model": "Default", "steps": ["1/3", 1]}, ["Default@1/3", "Default@1"]),
        (
            {"model": ["Default", "IWDiff"], "steps": ["1/3", 1]},
            [f"{m}@{s}" for m in ("Default", "IWDiff") for s in ("1/3", 1)],
        ),
        ({"steps": ["1/3", 1], "model": ["A", "B"]}, ["A@1/3", "B@1/3", "A@1", "B@1"]),
        ({"surrogate": "SNGAN", "t_mid": [0, 0.25]}, ["SNGAN@0", "SNGAN@0.25"]),
        ({"surrogate": "SNGAN", "t_mid": 0.25}, ["SNGAN"]),
        ({"surrogate": ["A", "B"], "t_mid": [0, "1/2"]}, ["A@0", "A@1/2", "B@0", "B@1/2"]),
        ({"surrogate": "A", "model": ["Default", "IWDiff"], "t_mid": 0.5}, ["A@Default", "A@IWDiff"]),
        (
            {"surrogate": "A", "t_mid": [0.5, 1], "handover": ["x0", "x_t"]},
            ["A@0.5@x0", "A@0.5@x_t", "A@1@x0", "A@1@x_t"],
        ),
        ({"model": "Default", "sampler": ["ancestral", "clipped"]}, ["Default@ancestral", "Default@clipped"]),
        ({"model": "Default", "name": "Best", "steps": [0.5, 1]}, ["Best@0.5", "Best@1"]),
        ({"model": ["A", "B"], "name": "Best", "steps": 1}, ["Best@A", "Best@B"]),
        ({"images": "real"}, [""]),
        ({"label": "Ho et al.", "paper": {"fid": 3.17}}, [""]),
    ],
)
def test_rows_are_called_by_their_model_and_what_is_listed(row, names):
    assert [line.name for line in Row.model_validate(row).lines()] == names


def test_a_row_of_another_study_has_no_lines_of_its_own(raw):
    assert Row(study="table_4_1").lines() == []
    loaded = params.parse(raw)
    own = [loaded.lines(loaded.studies[f"table_4_{number}"]) for number in range(1, 6)]
    assert loaded.lines(loaded.studies["all_samplers"]) == [line for lines in own for line in lines]


@pytest.mark.parametrize("column", studies.GROUPS)
def test_a_study_needs_what_its_columns_claims_and_figures_need(column):
    plain = study({"model": "Default"}, columns=[column])
    needs = Study.model_validate(plain).needs()
    assert needs <= {"score", "timing", "likelihood", "refinement"}
    claims = [
        {"claim": "so", "comparisons": [["bits_per_dim", "Default", "<", 3], ["sampling_speed", "Default", ">", 1]]}
    ]
    assert Study.model_validate(plain | {"claims": claims}).needs() == needs | {"likelihood", "timing"}
    assert Study.model_validate(plain | {"figures": [{"kind": "curves", "name": "f"}]}).needs() == needs
    pairs = [{"kind": "pairs", "name": "f", "row": "x"}]
    assert Study.model_validate(plain | {"figures": pairs}).needs() == needs | {"score"}


def test_loss_variance_and_parameters_need_no_more_than_the_models():
    columns = ["steps", "T", "network", "parameters", "image_size", "t_mid", "loss_variance"]
    assert Study.model_validate(study({"model": "Default"}, columns=columns)).needs() == set()


# --- shares


@given(steps=st.integers(1, 10**6), share=st.fractions(0, 1, max_denominator=10**6).filter(bool), data=st.data())
def test_a_snapshot_is_the_nearest_after_a_share_of_the_steps(steps, share, data):
    every = data.draw(st.sampled_from([d for d in range(1, min(steps, 300) + 1) if steps % d == 0]))
    found = studies.snapshot(f"{share.numerator}/{share.denominator}", training(steps, every))
    assert found % every == 0
    assert every <= found <= steps
    wanted = share * steps
    assert all(
        abs(found - wanted) <= abs(other - wanted) for other in (found - every, found + every) if 0 < other <= steps
    )
    assert studies.snapshot(1, training(steps, every)) == steps


@given(T=st.integers(2, 10**5), share=st.fractions(0, 1, max_denominator=10**6))
def test_a_timestep_is_the_nearest_to_a_share_of_the_schedule_and_an_end_is_exact(T, share):
    found = studies.timestep(f"{share.numerator}/{share.denominator}", T)
    if share in (0, 1):
        assert found == share * T
        return
    assert 0 < found < T
    assert all(abs(found - share * T) <= abs(other - share * T) for other in (found - 1, found + 1) if 0 < other < T)


@pytest.mark.parametrize(
    ("written", "share"), [(0, 0), (1, 1), (0.1, Fraction(1, 10)), ("1/3", Fraction(1, 3)), ("0.75", 0.75), (1.0, 1)]
)
def test_a_share_is_the_number_that_is_written_not_its_float(written, share):
    assert studies.as_share(written) == share
    assert Row(surrogate="A", t_mid=written).t_mid == [written]


@pytest.mark.parametrize(
    "written", [-1, 1.5, "2/1", "1/0", "x", "", " 1", "1e-1", True, None, [[1]], {}, "\u0661", "1/3/5"]
)
def test_what_is_no_share_is_refused(written):
    with pytest.raises(ValueError, match=r"t_mid"):
        Row.model_validate({"surrogate": "A", "t_mid": written})


# --- files


def test_the_project_s_studies_are_read_in_the_order_of_their_names(root, raw):
    found = studies.read(root / params.STUDIES)
    assert list(found) == sorted(found) == sorted(raw["studies"])
    for name, one in found.items():
        assert one == studies.parse(documents.read(root / params.STUDIES / f"{name}.yaml"), name)
