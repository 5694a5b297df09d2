from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/reference.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/likelihood.smk"
include: "workflow/rules/time.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/targets.smk"


rule all:
    default_target: True
    input:
        rules.models.input,
        rules.scores.input,
        [f"{RESULTS}/tables/{t}.{e}" for t in PLAN.tables for e in ("csv", "md", "json")],
        [f"{RESULTS}/figures/{f}.{e}" for f in PLAN.figures for e in ("png", "svg", "json")],
        rules.claims.output,
        rules.summary.output,
    message:
        f"{RESULTS}: tables and figures are up to date"
