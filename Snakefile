from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"


# After the rules that read it, whose messages name the line of a mistake.
configfile: "params.yaml"


include: "workflow/rules/runs.smk"
include: "workflow/rules/outputs.smk"


localrules:
    all,
    data,
    models,
    scores,


rule all:
    default_target: True
    input:
        # Scores and models by name: a missing one is made again even when its table is there.
        rules.models.input,
        rules.scores.input,
        OUTPUTS,
    message:
        f"{RESULTS}: tables and figures are up to date"
