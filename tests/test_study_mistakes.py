"""Mistakes in studies: one line each, with the file and the key, that says what to do."""

import pytest
import yaml
from test_params import put, refusal, remove

from surrodiff.config import params, studies
from surrodiff.config.columns import GROUPS
from surrodiff.errors import UserError

FIRST = "there are Default, ShortDiffusion, DeepRes1"
A_NAME = "a name has a letter, then letters"
KNOWN_COLUMNS = ", ".join(GROUPS)
MANY = [f"{n}/2000" for n in range(1, 1002)]


@pytest.mark.parametrize(
    ("key", "value", "names", "says"),
    [
        # keys and types
        ("table_4_1.colour", 1, "table_4_1.colour", "unknown key"),
        ("table_4_1.rows.0.colour", 1, "table_4_1.rows.0.colour", "unknown key"),
        ("table_4_1.rows.0.swept", ["steps"], "table_4_1.rows.0.swept", "unknown key"),
        ("table_4_1.claims.0.colour", 1, "table_4_1.claims.0.colour", "unknown key"),
        ("table_4_5.figures.0.colour", 1, "table_4_5.figures.0.colour", "unknown key"),
        ("table_4_1.title", "", "table_4_1.title", "at least 1 character"),
        ("table_4_1.title", 3, "table_4_1.title", "must be text, got 3"),
        ("table_4_1.group", "a b", "table_4_1.group", A_NAME),
        ("table_4_1.subject", "the model", "table_4_1.subject", A_NAME),
        ("table_4_1.rows.0", "Default", "table_4_1.rows.0", "block of keys, got 'Default'"),
        ("table_4_1.rows.0.label", 3, "table_4_1.rows.0.label: ", "must be text, got 3"),
        ("table_4_1.rows.0.seeds", "training", "table_4_1.rows.0.seeds", "must be 'calibration', got 'training'"),
        ("table_4_1.rows.0.paper", [1], "table_4_1.rows.0.paper", "block of keys"),
        ("table_4_1.rows.0.paper.is", {"mean": 8}, "table_4_1.rows.0.paper.is", "a number or text"),
        ("table_4_1.rows.0.paper.T", float("nan"), "table_4_1.rows.0.paper.T: ", "a number or text, got nan"),
        ("table_4_1.rows.0.paper.T", "\ud800", "table_4_1.rows.0.paper.T: ", "a number or text"),
        # what a row is about
        ("table_4_1.rows.0", {}, "table_4_1.rows.0.model", "missing (or surrogate"),
        ("table_4_1.rows.0", {"label": "x"}, "table_4_1.rows.0.model", "label and paper"),
        ("table_4_2.rows.0.study", "table_4_1", "table_4_2.rows.0.model", "study is given; make it two rows"),
        ("table_4_1.rows.0.images", "real", "table_4_1.rows.0.model", "images is given; make it two rows"),
        ("table_4_1.rows.1.steps", 0.5, "table_4_1.rows.1.steps", "only for a row about a model"),
        ("calibration.rows.0.sampler", "ancestral", "calibration.rows.0.sampler", "only for a row about a model"),
        ("table_4_1.rows.0.t_mid", 0.5, "table_4_1.rows.0.t_mid", "only for a row with a surrogate; remove it"),
        ("table_4_1.rows.0.handover", "x0", "table_4_1.rows.0.handover", "only for a row with a surrogate; remove"),
        ("calibration.rows.0.evaluations", 0.5, "calibration.rows.0.evaluations", "only for a row about a model"),
        ("table_4_1.rows.1.evaluations", 0.5, "table_4_1.rows.1.evaluations", "only for a row about a model"),
        ("all_samplers.rows.0.evaluations", 0.5, "all_samplers.rows.0.evaluations", "only for a row about a model"),
        ("table_4_5.rows.0.t_mid", None, "table_4_5.rows.0.t_mid", "missing; the share of the diffusion's length"),
        # shares and lists
        ("table_4_1.rows.0.steps", [0, "1/2", 1], "table_4_1.rows.0.steps", "must be more than 0"),
        ("table_4_1.rows.0.steps.1", 1.01, "table_4_1.rows.0.steps.1", "a share from 0 to 1, such as 0.25 or 1/3"),
        ("table_4_1.rows.0.evaluations", 0, "table_4_1.rows.0.evaluations", "must be more than 0"),
        ("table_4_1.rows.0.evaluations", [0.5, 0.0], "table_4_1.rows.0.evaluations", "must be more than 0"),
        ("table_4_1.rows.0.evaluations", -0.5, "table_4_1.rows.0.evaluations: ", "from 0 to 1, such as 0.25 or 1/3"),
        ("table_4_1.rows.0.evaluations", [1, 2], "table_4_1.rows.0.evaluations.1", "a share from 0 to 1"),
        ("table_4_1.rows.0.evaluations", True, "table_4_1.rows.0.evaluations: ", "a share from 0 to 1"),
        ("table_4_1.rows.0.evaluations", "few", "table_4_1.rows.0.evaluations: ", "got 'few'"),
        ("table_4_1.rows.0.evaluations", [], "table_4_1.rows.0.evaluations", "an empty list makes no row"),
        ("table_4_5.rows.0.t_mid.1", "1/0", "table_4_5.rows.0.t_mid.1", "a share from 0 to 1"),
        ("table_4_5.rows.0.t_mid.1", -0.25, "table_4_5.rows.0.t_mid.1", "a share from 0 to 1"),
        ("table_4_1.rows.0.model", [], "table_4_1.rows.0.model", "an empty list makes no row"),
        ("table_4_3.rows.0.steps", MANY[:999], "table_4_3.rows.0.model", "5,994 rows; at most 1,000"),
        ("table_4_2.rows.0.steps", MANY, "table_4_2.rows.0.steps", "1,001 rows; at most 1,000"),
        ("table_4_1.rows.0.paper.is", [1, 2], "table_4_1.rows.0.paper.is", "2 values for 3 rows; write one, or as"),
        ("table_4_1.rows.0.label", ["a"] * 4, "table_4_1.rows.0.label", "4 values for 3 rows; write one, or as many"),
        ("table_4_2.rows.0.note", ["a", "b"], "table_4_2.rows.0.note", "2 values for 3 rows; write one, or as many"),
        # columns
        ("table_4_1.columns.0", "colour", "table_4_1.columns.0", f"unknown column 'colour'; there are {KNOWN_COLUMNS}"),
        ("table_4_1.columns.0", 3, "table_4_1.columns.0", f"unknown column 3; there are {KNOWN_COLUMNS}"),
        ("table_4_1.columns", [], "table_4_1.columns", "an empty list; write at least 1"),
        ("table_4_1.rows", [], "table_4_1.rows", "an empty list; write at least 1"),
        ("table_4_1.rows.0.paper.psnr", 3, "table_4_1.rows.0.paper.psnr", "no column of this table; it has T, fid,"),
        # what presets have
        (
            "table_4_1.rows.0.model",
            "Defualt",
            "table_4_1.rows.0.model",
            f"presets.paper.models has no 'Defualt'; {FIRST}",
        ),
        ("table_4_5.rows.1.surrogate", "SAGAN", "table_4_5.rows.1.surrogate", f"has no 'SAGAN'; {FIRST}"),
        ("table_4_5.rows.0.model", "Defualt", "table_4_5.rows.0.model", f"has no 'Defualt'; {FIRST}"),
        ("table_4_1.rows.0.sampler", "plms", "table_4_1.rows.0.sampler", "samplers has no 'plms'; there are ancestral"),
        (
            "table_4_1.rows.0.model",
            "DDPMHalf",
            "table_4_1.rows.0.model",
            "makes images of 16 pixels, and presets.paper",
        ),
        ("table_4_5.rows.0.model", "SNGAN", "table_4_5.rows.0.model", "SNGAN is no diffusion model, which takes over"),
        (
            "table_4_5.rows.0.model",
            "ShortDiffusion",
            "table_4_5.rows.0.surrogate",
            "DDPMHalf.diffusion: must be that of",
        ),
        ("likelihood.rows.0.model", "SNGAN", "likelihood.rows.0.model", "only a diffusion model by itself has a bound"),
        ("likelihood.rows.2", {"surrogate": "SNGAN", "t_mid": 0}, "likelihood.rows.2.surrogate", "only a diffusion"),
        # other studies
        (
            "all_samplers.rows.0.study",
            "table_4_9",
            "all_samplers.rows.0.study",
            "no study 'table_4_9'; there are all_s",
        ),
        (
            "all_samplers.rows.0.study",
            "all_samplers",
            "all_samplers.rows.0.study",
            "has rows from other studies itself",
        ),
        ("calibration.rows.0", {"study": "all_samplers"}, "calibration.rows.0.study", "name those instead"),
        ("all_samplers.columns", ["likelihood"], "all_samplers.rows.4.study", "only a diffusion model by itself has"),
        # claims
        ("table_4_1.claims.0.comparisons", [], "table_4_1.claims.0.comparisons", "at least 1"),
        ("table_4_1.claims.0.comparisons.1", "x", "table_4_1.claims.0.comparisons.1", "must be a list, got 'x'"),
        (
            "table_4_1.claims.0.comparisons.1",
            [1, 2],
            "table_4_1.claims.0.comparisons.1",
            "must be [metric, row, relation",
        ),
        (
            "table_4_1.claims.0.comparisons.1.0",
            "fid",
            "table_4_1.claims.0.comparisons.1",
            "unknown metric 'fid'; there are",
        ),
        (
            "table_4_1.claims.0.comparisons.1.1",
            3,
            "table_4_1.claims.0.comparisons.1",
            "begins with a row's name, got 3",
        ),
        ("table_4_1.claims.0.comparisons.1.2", "<=", "table_4_1.claims.0.comparisons.1", "must be <, > or =, got '<='"),
        (
            "table_4_1.claims.0.comparisons.1.1",
            "IWDiff",
            "table_4_1.claims.0.comparisons.1",
            "no row is called 'IWDiff'",
        ),
        (
            "table_4_1.claims.0.comparisons.1.3",
            "Nobody",
            "table_4_1.claims.0.comparisons.1",
            "there are Default, Default@1",
        ),
        (
            "table_4_1.claims.0.comparisons.1.1",
            "others",
            "table_4_1.claims.0.comparisons.1",
            "no row is called 'others'",
        ),
        ("table_4_1.claims.0.comparisons.1.3", None, "table_4_1.claims.0.comparisons.1.3", "must be text or a number"),
        ("table_4_1.claims.0.comparisons.1.3", float("inf"), "table_4_1.claims.0.comparisons.1.3", "text or a number"),
        # figures
        ("table_4_5.figures.0", "pairs", "table_4_5.figures.0", "block of keys, got 'pairs'"),
        ("table_4_5.figures.0.kind", "pie", "table_4_5.figures.0.kind", "'terms', 'diagnoses', got 'pie'"),
        ("table_4_5.figures.0.name", "../x", "table_4_5.figures.0.name", A_NAME),
        ("table_4_5.figures.0.name", "figure_4_2", "table_4_5.figures.0.name", "figure_4_2 is drawn by table_4_3, too"),
        ("table_4_5.figures.0.row", "Nobody", "table_4_5.figures.0.row", "there are DDPMHalf@0.25, DDPMHalf@0.5"),
        (
            "table_4_5.figures.0.row",
            "SNGAN@0",
            "table_4_5.figures.0.row",
            "a surrogate and t_mid beyond 0, got 'SNGAN@0'",
        ),
        ("table_4_5.figures.0.row", "Default", "table_4_5.figures.0.row", "a surrogate and t_mid beyond 0"),
        ("table_4_3.figures.0.x", "train_hours", "table_4_3.figures.0.x", "must be a list, got 'train_hours'"),
        ("table_4_3.figures.0.x.0", "colour", "table_4_3.figures.0.x.0", "'evaluations', got 'colour'"),
        (
            "table_4_3.figures.0.x.0",
            "t_mid",
            "table_4_3.figures.0.x",
            "needs the columns `t_mid`; add them to `columns`",
        ),
        ("table_4_3.figures.0.fit", "cubic", "table_4_3.figures.0.fit", "'standard', got 'cubic'"),
    ],
)
def test_a_mistake_is_one_line_with_its_key(raw, key, value, names, says):
    put(raw, f"studies.{key}", value)
    message = refusal(raw)
    assert message.startswith(f"studies.{names}")
    assert says in message
    assert message.isprintable()


def with_row(raw: dict, **row) -> dict:
    """The document with a study of one row that every preset makes."""
    raw["studies"]["mine"] = {"title": "Mine", "rows": [row], "columns": ["scores"]}
    return raw


@pytest.mark.parametrize(
    ("timesteps", "says"),
    [
        (1000, "presets.demo.samplers.ddim.timesteps: 1000 is beyond T = 60 (Default); lower it"),
        ([1, 61], "presets.demo.samplers.ddim.timesteps: 61 is beyond T = 60 (Default); lower it"),
        (9, "presets.test.samplers.ddim.timesteps: 9 is beyond T = 8 (Default); lower it"),
        ([8, 9], "presets.test.samplers.ddim.timesteps: 9 is beyond T = 8 (Default); lower it"),
    ],
)
@pytest.mark.parametrize("row", [{"model": "Default"}, {"surrogate": "SNGAN", "t_mid": 0.5}])
def test_timesteps_beyond_the_diffusion_of_any_preset_are_told_where_a_row_takes_them(raw, timesteps, says, row):
    del raw["presets"]["quick"], raw["presets"]["paper"]["groups"][:]
    raw["samplers"]["ddim"]["timesteps"] = timesteps
    params.parse(raw)
    assert refusal(with_row(raw, sampler="ddim", **row)) == f"studies.mine.rows.0.sampler: {says}"
    put(raw, "presets.demo.samplers", {"ddim": {"timesteps": 8}})
    put(raw, "presets.test.samplers", {"ddim": {"timesteps": 8}})
    params.parse(raw)


def test_a_generator_alone_takes_no_timesteps(raw):
    raw["samplers"]["ddim"]["timesteps"] = 1000
    params.parse(with_row(raw, surrogate="SNGAN", t_mid=0, sampler="ddim"))
    # Nor does a share of evaluations take as many.
    params.parse(with_row(raw, model="Default", sampler="ddim", evaluations=0.5))


@pytest.mark.parametrize(
    "row", [{"model": "SNGAN"}, {"surrogate": "SNGAN", "t_mid": 0}, {"surrogate": "SNGAN", "t_mid": [0, 0.5]}]
)
def test_a_generator_alone_has_no_share_of_evaluations(raw, row):
    assert refusal(with_row(raw, evaluations=0.5, **row)) == (
        "studies.mine.rows.0.evaluations: SNGAN alone takes no steps of a diffusion that could be fewer; remove it"
    )


@pytest.mark.parametrize("row", [{"model": "Default"}, {"surrogate": "DDPMHalf", "t_mid": 0}])
def test_a_list_of_timesteps_leaves_no_share_of_evaluations(raw, row):
    raw["samplers"]["ddim"]["timesteps"] = [1, 4, 8]
    assert refusal(with_row(raw, evaluations=0.5, sampler="ddim", **row)) == (
        "studies.mine.rows.0.evaluations: presets.paper.samplers.ddim.timesteps says which ones are taken; remove one "
        "of them"
    )


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"model": "Default"}, "Default"),
        ({"surrogate": "SNGAN", "t_mid": 0.5}, "Default"),
        ({"surrogate": "DDPMHalf", "t_mid": 0}, "DDPMHalf"),
        ({"surrogate": "DDPMHalf", "t_mid": 0.5, "model": "Hybrid"}, "DDPMHalf"),
    ],
)
def test_a_variance_that_a_model_has_not_learned_is_told(raw, row, name):
    assert refusal(with_row(raw, sampler="learned", **row)) == (
        f"studies.mine.rows.0.sampler: presets.paper.samplers.learned.variance: learned, and {name} learns none; write "
        "fixed_large or fixed_small, or give the model network.learned_variance: true"
    )
    params.parse(with_row(raw, sampler="learned", model="Hybrid"))


@pytest.mark.parametrize(
    "key",
    [
        *("title", "rows", "columns", "figures.0.kind", "figures.0.name", "figures.0.row"),
        *("claims.0.claim", "claims.0.comparisons"),
    ],
)
def test_a_missing_key_is_named(raw, key):
    remove(raw, f"studies.table_4_5.{key}")
    assert refusal(raw) == f"studies.table_4_5.{key}: missing"


@pytest.mark.parametrize(
    "written",
    [
        [{"model": "Default"}, {"model": "Default", "steps": 0.5}],
        [{"model": ["Default", "IWDiff"]}, {"model": "IWDiff", "label": "again"}],
        [{"model": "Default", "name": "IWDiff"}, {"model": "IWDiff"}],
        [{"surrogate": "SNGAN", "t_mid": 0.5}, {"surrogate": "SNGAN", "t_mid": 0.25}],
    ],
)
def test_two_rows_of_one_name_are_told_and_a_name_tells_them_apart(raw, written):
    raw["studies"]["mine"] = {"title": "Mine", "rows": written, "columns": ["scores"]}
    assert refusal(raw).startswith(
        "studies.mine.rows: two rows are called the same in claims; give one of them a `name` ("
    )
    written[0]["name"] = "Another"
    params.parse(raw)


def test_rows_that_have_no_name_may_be_many(raw):
    quoted = {"label": "another paper", "paper": {"fid": 3}}
    raw["studies"]["mine"] = {"title": "Mine", "rows": [quoted, quoted, {"images": "real"}], "columns": ["scores"]}
    params.parse(raw)


def test_default_and_others_are_rows_of_every_claim(raw):
    claims = [
        {"claim": "so", "comparisons": [["distance", "IWDiff", "<", "Default"], ["score", "IWDiff", ">", "others"]]}
    ]
    raw["studies"]["mine"] = {"title": "Mine", "rows": [{"model": "IWDiff"}], "columns": ["scores"], "claims": claims}
    params.parse(raw)


def test_a_preset_that_a_row_does_not_fit_is_named(raw):
    put(raw, "presets.demo.models.DDPMHalf.diffusion", {"T": 50})
    message = refusal(raw)
    assert (
        message == "studies.table_4_5.rows.0.surrogate: presets.demo.models.DDPMHalf.diffusion: must be that of Default"
    )


def test_every_mistake_of_one_study_is_told_at_once(raw):
    put(raw, "studies.table_4_1.rows.0.steps.0", 7)
    put(raw, "studies.table_4_1.columns.0", "colour")
    put(raw, "studies.table_4_2.group", "")
    with pytest.raises(UserError) as caught:
        params.parse(raw, "my.yaml")
    keys = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert keys == ["studies.table_4_1.rows.0.steps.0", "studies.table_4_1.columns.0", "studies.table_4_2.group"]


# --- files


@pytest.fixture
def mine(tmp_path, root):
    """Read the repository's params.yaml with a folder of studies that has one of one's own; returns the message."""

    def of(text: str, name: str = "mine.yaml") -> str:
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError) as caught:
            params.load(root / "params.yaml", folder=tmp_path, preset="test")
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(f"{tmp_path / name}: ")
        return message.removeprefix(f"{tmp_path / name}: ")

    return of


PLAIN = "title: Mine\ngroup: paper\nrows:\n- model: Default\ncolumns: [scores]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be a block of keys, got None"),
        ("- 1\n", "must be a block of keys"),
        ("title: [", "not valid YAML: line 1: "),
        (PLAIN + "colour: 1\n", "colour: unknown key"),
        (PLAIN.replace("scores", "scoers"), "columns.0: unknown column 'scoers'; there are steps, T,"),
        (PLAIN.replace("\n- model: Default", " []"), "rows: an empty list; write at least 1"),
        (PLAIN + "title: Two\n", "line 6: title: the same key as in line 1; keep one"),
        (PLAIN.replace("Default", "Defualt"), f"rows.0.model: presets.paper.models has no 'Defualt'; {FIRST}"),
        (PLAIN.replace("model:", "study:"), "rows.0.study: there is no study 'Default'; there are mine"),
        (PLAIN.replace("model: Default", "study: mine"), "rows.0.study: 'mine' has rows from other studies itself"),
        (PLAIN + "figures:\n- {kind: pairs, name: f, row: x}\n", "figures.0.row: must be a row with a surrogate"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_the_file_and_the_key(mine, text, says):
    assert mine(text).startswith(says)


@pytest.mark.parametrize("name", ["my table.yaml", "4.yaml", "a-b.yaml", "mine.yml", "\u00e9.yaml", f"{'a' * 61}.yaml"])
def test_a_file_whose_name_cannot_be_a_table_s_is_told(mine, name):
    assert mine(PLAIN, name).startswith("a study's file has a name of letters (a to z), digits or _, beginning with")


def test_a_folder_without_studies_is_told(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            UserError, match=r"no studies \(\*\.yaml\) here; run this in the folder that holds"
        ) as caught:
            studies.read(folder)
        assert str(caught.value).startswith(f"{folder}: ")


def test_the_paper_s_preset_asks_for_the_paper_s_studies(tmp_path, root):
    (tmp_path / "mine.yaml").write_text(PLAIN.replace("group: paper\n", ""))
    with pytest.raises(
        UserError, match=r"presets\.paper\.groups: no study is of the group 'paper', or called so; there are none$"
    ):
        params.load(root / "params.yaml", folder=tmp_path, preset="test")
    changes = {"presets": {"paper": {"groups": []}}}
    assert list(params.load(root / "params.yaml", changes, folder=tmp_path, preset="test").studies) == ["mine"]


def test_hidden_files_and_others_are_no_studies(tmp_path):
    (tmp_path / "mine.yaml").write_text(PLAIN)
    for name in (".mine.yaml.swp", ".#mine.yaml", ".other.yaml", "notes.md", "mine.yaml~"):
        (tmp_path / name).write_text("{")
    assert list(studies.read(tmp_path)) == ["mine"]


def test_a_study_may_be_written_by_any_yaml_writer(tmp_path):
    (tmp_path / "mine.yaml").write_text(PLAIN)
    plain = studies.read(tmp_path)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(plain["mine"].model_dump(mode="json")))
    assert studies.read(tmp_path) == plain
