from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/reference.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/refinement.smk"
include: "workflow/rules/likelihood.smk"
include: "workflow/rules/diagnosis.smk"
include: "workflow/rules/time.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/targets.smk"


rule all:
    default_target: True
    input:
        rules.models.input,
        rules.scores.input,
        rules.tables.input,
        (rules.claims.output, rules.summary.output) if OWN_GROUPS else [],
    message:
        f"{RESULTS}: tables and figures are up to date"
