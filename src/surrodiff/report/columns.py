"""The columns that a study may name: each group as cells of a row, with the paper's numbers beside ours."""

import re
import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pandas as pd

from surrodiff.config.columns import GROUPS
from surrodiff.config.models import DDPM, Model
from surrodiff.planning.plan import Row
from surrodiff.planning.recipes import Recipe
from surrodiff.report.records import Distances, RealScores, Records, Scores
from surrodiff.report.rows import REFINEMENTS, Names, Values, over_samples
from surrodiff.store.runs import load_run

Cells = dict[str, Any]
_COUNTS = (
    "train_steps",
    "train_evaluations",
    "noises",
    "t_mid",
    "T",
    "num_res_blocks",
    "base_channels",
    "image_size",
    "parameters",
    "evaluations",
)
_OTHER_COUNTS = ("num_samples", "num_images", "samples_of_trained_bound", "samples_of_nll", "seeds", "seed")
_WHOLE = (*_COUNTS, *(f"paper_{name}" for name in _COUNTS), *_OTHER_COUNTS)
# Behind which of our columns a paper's number stands, where that has another name.
_BESIDE = {"parameters_m": "parameters_m_by_paper"}
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"


def _steps(row: Row, values: Values) -> Cells:
    return {"train_steps": row.step}


def _T(row: Row, values: Values) -> Cells:
    return {"T": row.T}


def _model(row: Row, values: Values) -> Model | None:
    """The model that a row is about; None where no model made its images."""
    if row.runs[0].model is None:
        return None
    return load_run(values.records.results, "models", row.runs[0].model)[1].model


def _schedule(row: Row, values: Values) -> Cells:
    model = _model(row, values)
    if not isinstance(model, DDPM):
        return {"schedule": None}
    rescaled = model.diffusion.rescaled_from
    return {"schedule": model.diffusion.schedule + (f", rescaled from {rescaled}" if rescaled else "")}


def _objective(row: Row, values: Values) -> Cells:
    model = _model(row, values)
    if not isinstance(model, DDPM):
        return dict.fromkeys(("prediction", "loss", "weighting", "timesteps"))
    objective = model.objective
    weighting = None if objective.loss == "vlb" else objective.weighting
    own = {"loss": objective.loss, "weighting": weighting, "timesteps": objective.timesteps}
    return {"prediction": model.diffusion.prediction, **own}


def _noises(row: Row, values: Values) -> Cells:
    """k, and how the k noises are weighted, where that means something."""
    model = _model(row, values)
    if not isinstance(model, DDPM):
        return dict.fromkeys(("noises", "weights", "reduction"))
    objective = model.objective
    several = objective.noises > 1
    weights = objective.weights if several else None
    reduction = objective.reduction if several and weights != "uniform" else None
    return {"noises": objective.noises, "weights": weights, "reduction": reduction}


def _train_evaluations(row: Row, values: Values) -> Cells:
    """How often training has evaluated the network on an image up to the row's step, of importance sampling's extra
    batches of timesteps as well."""
    model = _model(row, values)
    if not isinstance(model, DDPM):
        return {"train_evaluations": None}
    each = model.objective.noises * (1 + model.objective.extra_timestep_batches)
    return {"train_evaluations": row.step * model.training.batch_size * each}


def _network(row: Row, values: Values) -> Cells:
    model = _model(row, values)
    names = ("block", "channel_multipliers", "num_res_blocks", "base_channels")
    if not isinstance(model, DDPM):
        return dict.fromkeys(names)
    found = {name: getattr(model.network, name) for name in names}
    return found | {"channel_multipliers": "(" + ", ".join(map(str, model.network.channel_multipliers)) + ")"}


def _parameters(row: Row, values: Values) -> Cells:
    if row.runs[0].model is None:
        return {"parameters": None, "parameters_m_by_paper": None}
    found = values.records.trained(row.runs[0].model)
    return {"parameters": found.parameters, "parameters_m_by_paper": found.parameters_by_paper}


def _image_size(row: Row, values: Values) -> Cells:
    return {"image_size": row.image_size}


def _t_mid(row: Row, values: Values) -> Cells:
    return {"t_mid": row.t_mid}


def _sampler(row: Row, values: Values) -> Cells:
    return {"sampler": row.sampler, "evaluations": row.evaluations}


def _speed(row: Row, values: Values) -> Cells:
    speed = values.speed(row)
    ratios = {
        "sampling_speed_ratio": speed and speed.ratio,
        "sampling_speed_ratio_interval": speed and speed.interval,
    }
    return {"samples_per_second": speed and speed.value} | ratios


def _cost(row: Row, values: Values) -> Cells:
    cost = values.cost(row)
    return {"all_train_hours": cost and cost.training, "total_hours": cost and cost.training + cost.sampling}


def _train_hours(row: Row, values: Values) -> Cells:
    time = values.train_time(row)
    return {"train_hours": time and time.value}


def _train_time(row: Row, values: Values) -> Cells:
    time = values.train_time(row)
    return {"train_time_ratio": time and time.ratio, "train_time_ratio_interval": time and time.interval}


def _loss_variance(row: Row, values: Values) -> Cells:
    if row.runs[0].model is None:
        return {"loss_variance": None, "loss_variance_interval": None}
    found = values.estimate("loss_variance", row)
    return {"loss_variance": found.value, "loss_variance_interval": found.interval}


def _likelihood(row: Row, values: Values) -> Cells:
    bounds = values.bounds(row)
    return {
        "bits_per_dim": values.estimate("bits_per_dim", row).value,
        "bits_per_dim_interval": values.interval("bits_per_dim", row),
        **{part: None if values.has_nats(row) else _mean(bounds, part) for part in ("prior", "kl", "decoder")},
        "num_images": bounds[0].num_images,
    }


def _mean(found: list[Any], what: str) -> float:
    return statistics.fmean(getattr(one, what) for one in found)


def _nll(row: Row, values: Values) -> Cells:
    """-log p in nats by the tightest bound, the one that was trained, and the ELBO; the number of samples of each. The
    trained one is blank where the tightest has fewer samples."""
    if not values.has_nats(row):
        return {}
    bounds = values.bounds(row)
    cells = {"nll": values.estimate("nll", row).value, "nll_interval": values.interval("nll", row)}
    if values.has_rises(row):
        samples = getattr(_model(row, values), "importance_samples", 1)  # a flow trains on one dequantisation
        trained = [line.nats for bound in bounds for line in bound.bounds if line.samples == samples]
        cells |= {
            "nll_by_trained_bound": statistics.fmean(trained) if trained else None,
            "nll_by_elbo": _mean([bound.bounds[0] for bound in bounds], "nats"),
            "least_rise": values.estimate("bound_rise", row).value,
            "least_rise_interval": values.interval("bound_rise", row),
            "samples_of_trained_bound": samples if trained else None,
        }
    return cells | {"samples_of_nll": bounds[0].bounds[-1].samples, "num_images": bounds[0].num_images}


def _refinement(row: Row, values: Values) -> Cells:
    found = values.refinements(row)
    cells: Cells = {}
    for metric, (space, name) in REFINEMENTS.items():
        if name == "above_chance":  # for claims; a reader sees both of its parts
            continue
        cells[metric] = values.estimate(metric, row).value if found else None
        cells[f"{metric}_interval"] = values.interval(metric, row) if found else None
        for more in ("kept_by_chance", "within", "within_by_chance") if name == "kept" else ():
            mean = statistics.fmean(getattr(getattr(one, space), more) for one in found) if found else None
            cells[metric.removesuffix("kept") + more] = mean
    return cells


def _images(row: Row, values: Values) -> Cells:
    """Of samples in a table of real images."""
    own = {"num_images": values.scores(row)[0].num_samples, "against": "train"}
    return {"corruption": None, "amount": None, "seed": row.seeds[0] if row.line.seeds else None, **own}


def _scores(row: Row, values: Values) -> Cells:
    scores, names = values.scores(row), values.names
    return _score_cells(scores, values) | {
        f"{names.score}_mean": values.estimate("score", row).value,
        f"{names.score}_interval": values.estimate("score", row).interval,
        names.distance: values.estimate("distance", row).value,
        f"{names.distance}_interval": values.interval("distance", row),
    }


def _score_cells(scores: list[Scores], values: Values, against: str = "train") -> Cells:
    """Columns of scores, against a split of the real images and the held-out one: means, without intervals."""
    names = values.names
    distance, kernel, score = names.distance, names.kernel, names.score

    def mean(what: Callable[[Distances], float | None], split: str = against) -> float | None:
        parts = [getattr(one, split) for one in scores]
        found = [part and what(part) for part in parts]
        return None if None in found else statistics.fmean(found)

    def held_out(what: Callable[[Distances], float | None]) -> float | None:
        return mean(what, "held_out") if against == "train" else None

    return {
        f"{score}_mean": statistics.fmean(one.is_mean for one in scores),
        f"{score}_std": statistics.fmean(one.is_std for one in scores),
        f"{score}_interval": None,
        distance: mean(lambda found: found.frechet_distance),
        f"{distance}_interval": None,
        f"{distance}_infinity": mean(lambda found: found.frechet_infinity),
        f"{distance}_held_out": held_out(lambda found: found.frechet_distance),
        f"{kernel}_mean": mean(lambda found: found.kernel_distance),
        f"{kernel}_std": mean(lambda found: found.kernel_distance_std),
        f"{kernel}_held_out": held_out(lambda found: found.kernel_distance),
        "precision": mean(lambda found: found.precision),
        "recall": mean(lambda found: found.recall),
        "precision_held_out": held_out(lambda found: found.precision),
        "recall_held_out": held_out(lambda found: found.recall),
    }


CELLS: dict[str, Callable[[Row, Values], Cells]] = {
    "steps": _steps,
    "T": _T,
    "schedule": _schedule,
    "objective": _objective,
    "noises": _noises,
    "network": _network,
    "parameters": _parameters,
    "image_size": _image_size,
    "t_mid": _t_mid,
    "sampler": _sampler,
    "speed": _speed,
    "cost": _cost,
    "train_hours": _train_hours,
    "train_time": _train_time,
    "train_evaluations": _train_evaluations,
    "loss_variance": _loss_variance,
    "scores": _scores,
    "images": _images,
    "likelihood": _likelihood,
    "nll": _nll,
    "refinement": _refinement,
}


def _last(row: Row, values: Values, columns: list[str]) -> Cells:
    """What every row rests on."""
    found = {}
    if "scores" in columns:
        score = values.scores(row)[0]
        found = {"against_default": values.against_default(row), "seeds": len(row.seeds)}
        found |= {"num_samples": score.num_samples, "train_steps": row.step, "data": score.data}
    elif {"likelihood", "nll"} & {*columns}:
        found = {"train_steps": row.step, "seeds": len(row.seeds), "data": values.bounds(row)[0].data}
    else:
        found = {"train_steps": row.step, "seeds": len(row.seeds)}
        if refinements := values.refinements(row):
            found |= {"num_samples": refinements[0].num_samples, "data": refinements[0].data}
    return found | {"note": row.line.note}


def _real_images(values: Values, columns: list[str], subject: str) -> Iterator[Cells]:
    """The rows of the real images, whole and damaged, each against the split that it was scored against."""
    reference, names = values.records.reference(values.recipe.reference), values.names
    for line in reference.calibration:
        for split in ("train", "held_out"):
            if (found := getattr(line, split)) is not None:
                yield {subject: line.images, **_real_cells(line, split, columns, values)} | {
                    f"{names.distance}_interval": over_samples(found.frechet_error, line.num_images),
                    "data": reference.data,
                }


def _real_cells(line: RealScores, split: str, columns: list[str], values: Values) -> Cells:
    own = {
        "corruption": line.corruption,
        "amount": line.amount,
        "seed": None,
        "num_images": line.num_images,
        "against": split,
    }
    cells = {"images": own, "scores": _score_cells([line], values, split)}
    return {name: cell for column in columns for name, cell in cells.get(column, {}).items()}


def printed(value: Any) -> tuple[float, float | None] | None:
    """The number that a paper prints in a cell, with the standard deviation that may follow it; None of other text."""
    parts = re.fullmatch(rf"\s*{_NUMBER}\s*(?:(?:±|\+/?-)\s*{_NUMBER}\s*)?", str(value))
    return parts and (float(parts[1]), parts[2] and float(parts[2]))


def _papers(rows: Iterable[Row], columns: list[str]) -> list[Cells]:
    """A paper's numbers as cells of each row, of those columns that the table has: two for what it prints anywhere as
    `8.67 ± 0.11`, a mean and a standard deviation."""
    known = {name for column in columns for name in GROUPS[column].names}
    papers = [{key: value for key, value in row.line.paper.items() if key in known} for row in rows]
    spread = {key for paper in papers for key, value in paper.items() if (printed(value) or (0, None))[1] is not None}

    def cells(key: str, value: Any) -> Cells:
        if key not in spread:
            return {f"paper_{key}": value}
        return dict(zip((f"paper_{key}_mean", f"paper_{key}_std"), printed(value) or (value, None), strict=True))

    return [{name: cell for key in paper for name, cell in cells(key, paper[key]).items()} for paper in papers]


def _order(own: list[str], papers: list[str], names: Names | None) -> list[str]:
    """All columns: each of the paper's behind ours of the same thing, or behind the label where no row has ours."""
    behind = dict(_BESIDE)
    if names:
        behind |= {"is": f"{names.score}_std", "fid": names.distance}
    found = list(own)
    for paper in reversed(papers):
        key = re.sub("^paper_|_(mean|std)$", "", paper)
        column = behind.get(key, key)
        found.insert(found.index(column) + 1 if column in found else 1, paper)
    return found


def _as_whole(values: pd.Series) -> pd.Series:
    """Whole numbers as such, though some are missing; what a paper prints otherwise stays as it is."""
    numbers = pd.to_numeric(values, errors="coerce")
    is_whole = (numbers.isna() == values.isna()).all() and (numbers.dropna() % 1 == 0).all()
    return numbers.astype("Int64") if is_whole else values


def frame(recipe: Recipe, records: Records, *more: str) -> pd.DataFrame:
    """A recipe's table: a row for each row of the study, in its order. more: groups of columns that it has in any case.

    Raises UserError if a run that it needs is not complete.
    """
    study, values = recipe.table.study, Values(recipe, records)
    columns = list(dict.fromkeys([*study.columns, *more]))
    lines = []
    for row, paper in zip(recipe.table.rows, _papers(recipe.table.rows, columns), strict=True):
        if row.line.images:
            cells = list(_real_images(values, columns, study.subject))
        elif row.runs:
            made = {name: cell for column in columns for name, cell in CELLS[column](row, values).items()}
            last = {name: cell for name, cell in _last(row, values, columns).items() if name not in made}
            # The label stays, even below a heading that a column has.
            cells = [{study.subject: None, **made, **last, study.subject: row.label}]
        else:
            cells = [{study.subject: row.line.label, "note": row.line.note}]
        lines += [(line, paper) for line in cells]
    # The fullest row tells the order of columns.
    own = dict.fromkeys(name for line, _ in sorted(lines, key=lambda line: -len(line[0])) for name in line)
    papers = dict.fromkeys(name for _, paper in lines for name in paper)
    names = values.names if "scores" in columns else None
    made = pd.DataFrame([line | paper for line, paper in lines], columns=_order([*own], [*papers], names))
    whole = {column: _as_whole(made[column]) for column in made if column in _WHOLE}
    return made.assign(**whole).astype({column: float for column in made if column.endswith("_interval")})
