# Tables, figures, claims and the summary keep plain names. Beside each lies what it was made from (see
# surrodiff.planning.recipes); while that is today's, its inputs are `ancient`.


@functools.cache
def inputs_of(recipe_of, name, beside):
    """The inputs of an output by stage, and under `changed` what makes it anew if it is not today's."""
    recipe = recipe_of(PLAN, name) if name else recipe_of(PLAN)
    found = collections.defaultdict(list)
    for stage, run in recipe.sources():
        found[stage].append(ancient(done(stage, run)))
    if not recipes.is_current(pathlib.Path(FOLDER, beside.format(name)), recipe, pathlib.Path(FOLDER)):
        found["changed"] = [local(str(ALWAYS_STALE))]
        found["samples"] = [done("samples", run) for run in recipe.samples() if only_scores_are_there(run)]
    return found


def made_from(stage, recipe_of, beside, wildcard=None):
    """An input function: what an output reads of a stage, or under `changed` what makes it anew."""
    return lambda wc: inputs_of(recipe_of, wildcard and wc[wildcard], beside)[stage]


TABLE = (recipes.table, "tables/{}.json", "table")
FIGURE = (recipes.figure, "figures/{}.json", "figure")
CLAIMS = (recipes.claims, "claims.json")
SUMMARY = (recipes.summary, "summary/summary.json")


rule table:
    input:
        models=made_from("models", *TABLE),
        references=made_from("references", *TABLE),
        scores=made_from("scores", *TABLE),
        refinements=made_from("refinements", *TABLE),
        likelihoods=made_from("likelihoods", *TABLE),
        timings=made_from("timings", *TABLE),
        changed=made_from("changed", *TABLE),
    output:
        multiext(f"{RESULTS}/tables/{{table}}", ".csv", ".md", ".json"),
    log:
        f"{RESULTS}/logs/tables/{{table}}.log",
    params:
        command="table {table}",
    message:
        "table {wildcards.table}"
    shell:
        f"{PYTHON} -m surrodiff.cli {{params.command}} {GIVEN} > {{log:q}} 2>&1"


use rule table as figure with:
    input:
        models=made_from("models", *FIGURE),
        references=made_from("references", *FIGURE),
        scores=made_from("scores", *FIGURE),
        samples=made_from("samples", *FIGURE),
        refinements=made_from("refinements", *FIGURE),
        likelihoods=made_from("likelihoods", *FIGURE),
        diagnoses=made_from("diagnoses", *FIGURE),
        timings=made_from("timings", *FIGURE),
        changed=made_from("changed", *FIGURE),
    output:
        multiext(f"{RESULTS}/figures/{{figure}}", ".png", ".svg", ".json"),
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    params:
        command="figure {figure}",
    message:
        "figure {wildcards.figure}"


use rule table as claims with:
    input:
        models=made_from("models", *CLAIMS),
        references=made_from("references", *CLAIMS),
        scores=made_from("scores", *CLAIMS),
        refinements=made_from("refinements", *CLAIMS),
        likelihoods=made_from("likelihoods", *CLAIMS),
        timings=made_from("timings", *CLAIMS),
        changed=made_from("changed", *CLAIMS),
    output:
        multiext(f"{RESULTS}/claims", ".csv", ".json"),
    log:
        f"{RESULTS}/logs/claims.log",
    params:
        command="claims",
    message:
        "claims of the papers, judged"


use rule table as summary with:
    input:
        models=made_from("models", *SUMMARY),
        references=made_from("references", *SUMMARY),
        scores=made_from("scores", *SUMMARY),
        refinements=made_from("refinements", *SUMMARY),
        likelihoods=made_from("likelihoods", *SUMMARY),
        timings=made_from("timings", *SUMMARY),
        changed=made_from("changed", *SUMMARY),
    output:
        [f"{RESULTS}/summary/{name}" for name in ("metrics.json", "rows.csv", "losses.csv", "summary.json")],
    log:
        f"{RESULTS}/logs/summary.log",
    params:
        command="summary",
    message:
        "summary: metrics and curves"
