SCORES_OF = collections.defaultdict(list)
for _run in PLAN.of_stage("scores"):
    SCORES_OF[PLAN.runs[_run].config["sample"]].append(_run)


def only_scores_are_there(sample):
    """Whether nothing will make these samples by the way, as the job of a missing score does."""
    there = [pathlib.Path(FOLDER, "scores", run, "done.json").exists() for run in SCORES_OF[sample]]
    return all(there) and not pathlib.Path(FOLDER, "samples", sample, "done.json").exists()


def made_from(output, beside):
    """The inputs of an output, given the name of what lies beside it."""
    recipe = recipes.recipe(PLAN, output)
    if recipes.is_current(pathlib.Path(FOLDER, beside), recipe, pathlib.Path(FOLDER)):
        return []
    images = [done("samples", run) for run in recipes.samples(recipe) if only_scores_are_there(run)]
    return [done(*source) for source in recipes.sources(recipe)] + images + [local(str(ALWAYS_STALE))]


def output_command(command):
    return f"{PYTHON} -m surrodiff.cli {command} {GIVEN} >> {{log:q}} 2>&1"


rule table:
    input:
        lambda wc: made_from(wc.table, f"tables/{wc.table}.json"),
    output:
        multiext(f"{RESULTS}/tables/{{table}}", ".csv", ".md", ".json"),
    log:
        f"{RESULTS}/logs/tables/{{table}}.log",
    message:
        "table {wildcards.table}"
    shell:
        output_command("table {wildcards.table}")


rule figure:
    input:
        lambda wc: made_from(wc.figure, f"figures/{wc.figure}.json"),
    output:
        multiext(f"{RESULTS}/figures/{{figure}}", ".png", ".svg", ".json"),
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    message:
        "figure {wildcards.figure}"
    shell:
        output_command("figure {wildcards.figure}")


rule claims:
    input:
        lambda wc: made_from("claims", "claims.json"),
    output:
        multiext(f"{RESULTS}/claims", ".csv", ".json"),
    log:
        f"{RESULTS}/logs/claims.log",
    message:
        "claims of the paper, judged"
    shell:
        output_command("claims")


rule summary:
    input:
        lambda wc: made_from("summary", "summary/summary.json"),
    output:
        [f"{RESULTS}/summary/{name}" for name in ("metrics.json", "rows.csv", "losses.csv", "summary.json")],
    log:
        f"{RESULTS}/logs/summary.log",
    message:
        "summary: metrics and curves"
    shell:
        output_command("summary")


OUTPUTS = [
    *[f"{RESULTS}/tables/{t}.{e}" for t in PLAN.tables for e in ("csv", "md", "json")],
    *[f"{RESULTS}/figures/{f}.{e}" for f in PLAN.figures for e in ("png", "svg", "json")],
    *rules.claims.output,
    *rules.summary.output,
]
