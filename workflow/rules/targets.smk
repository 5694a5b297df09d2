# What may be asked for by name, in the order of the work.
rule data:
    input:
        all_of("data"),


rule models:
    input:
        all_of("models"),


# A missing one is made again even when its table is there.
rule scores:
    input:
        all_of("scores"),
        all_of("refinements"),
        all_of("likelihoods"),
        all_of("diagnoses"),
        all_of("timings"),


# Without claims.csv and the summary, which are of the groups that the preset makes by default.
rule tables:
    input:
        [f"{RESULTS}/tables/{t}.{e}" for t in PLAN.tables for e in ("csv", "md", "json")],
        [f"{RESULTS}/figures/{f}.{e}" for f in PLAN.figures for e in ("png", "svg", "json")],
    message:
        f"{RESULTS}: tables and figures are up to date"
