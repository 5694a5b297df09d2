from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/outputs.smk"


rule all:
    default_target: True
    input:
        # Scores and models by name: a missing one is made again even when its table is there.
        rules.models.input,
        rules.scores.input,
        OUTPUTS,
    message:
        f"{RESULTS}: tables and figures are up to date"
