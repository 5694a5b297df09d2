"""What the columns of a study may be, what its claims compare and its figures draw, and the runs that each needs."""


class Group:
    """A group of columns: the runs that it needs of a row, and the columns beside which a paper's numbers stand."""

    def __init__(self, *names: str, needs: str = ""):
        self.names, self.needs = names, needs


# What `columns` may name. report.columns says what is in them.
GROUPS = {
    "steps": Group("train_steps"),
    "T": Group("T"),
    "schedule": Group("schedule"),
    "objective": Group("prediction", "loss", "weighting", "timesteps"),
    "noises": Group("noises", "weights", "reduction"),
    "network": Group("block", "channel_multipliers", "num_res_blocks", "base_channels"),
    "parameters": Group("parameters", "parameters_m"),
    "image_size": Group("image_size"),
    "t_mid": Group("t_mid"),
    "sampler": Group("evaluations"),
    "speed": Group("samples_per_second", needs="timing"),
    "cost": Group("all_train_hours", "total_hours", needs="timing"),
    "train_hours": Group("train_hours", needs="timing"),
    "train_time": Group("train_time_ratio", needs="timing"),
    "train_evaluations": Group("train_evaluations"),
    "loss_variance": Group("loss_variance"),
    "scores": Group("is", "fid", needs="score"),
    "images": Group(needs="score"),
    "likelihood": Group("bits_per_dim", needs="likelihood"),
    "nll": Group("nll", needs="likelihood"),
    "refinement": Group(needs="refinement"),
}
# What a claim may compare, with the runs that it needs and the paper's columns for it.
METRICS = {
    "distance": ("score", ("fid",)),
    "score": ("score", ("is",)),
    "parameters": ("", ("parameters_m",)),
    "sampling_speed": ("timing", ("samples_per_second",)),
    "train_time": ("timing", ("train_hours", "train_time_ratio")),
    "loss_variance": ("", ()),
    "bits_per_dim": ("likelihood", ("bits_per_dim",)),
    "nll": ("likelihood", ("nll",)),
    "bound_rise": ("likelihood", ()),
    "moved": ("refinement", ()),
    "moved_relative": ("refinement", ()),
    "moved_in_features": ("refinement", ()),
    "neighbour_kept": ("refinement", ()),
    "neighbour_above_chance": ("refinement", ()),
    "feature_neighbour_kept": ("refinement", ()),
    "feature_neighbour_above_chance": ("refinement", ()),
}
# What a figure may draw, and the group of columns that has it.
AXES = {
    "parameters_m": "parameters",
    "samples_per_second": "speed",
    "train_hours": "train_hours",
    "total_hours": "cost",
    "train_steps": "steps",
    "train_evaluations": "train_evaluations",
    "t_mid": "t_mid",
    "evaluations": "sampler",
}
