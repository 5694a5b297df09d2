# Tables, figures and the summary keep plain names. Beside each lies what it was made from (see surrodiff.recipes). While
# that is today's, it needs nothing; else NOW, which is always newer, is one of its inputs. Without this, a number changed
# back would leave yesterday's table standing.
NOW = ".snakemake/now"
if workflow.is_main_process:
    pathlib.Path(NOW).parent.mkdir(exist_ok=True)
    # A new content too: Snakemake takes a newer file of the same checksum for unchanged.
    pathlib.Path(NOW).write_text(str(time.time_ns()))


def only_scores_are_there(sample):
    """Whether nothing will make these samples by the way, as the job of a missing score does."""
    scored = all(os.path.exists(done("scores", run)) for run in SCORES_OF[sample])
    return scored and not os.path.exists(done("samples", sample))


def made_from(output, beside):
    recipe = recipes.recipe(PLAN, output)
    if os.path.exists(beside) and open(beside).read() == recipes.sidecar(recipe, pathlib.Path(RESULTS)):
        return []
    images = [done("samples", run) for run in recipes.samples(recipe) if only_scores_are_there(run)]
    return [done(*source) for source in recipes.sources(recipe)] + images + [NOW]


def recipe_of(output):
    return shlex.quote(canonical(recipes.recipe(PLAN, output)))


rule table:
    input:
        lambda wc: made_from(wc.table, f"{RESULTS}/tables/{wc.table}.json"),
    output:
        multiext(f"{RESULTS}/tables/{{table}}", ".csv", ".md", ".json"),
    log:
        f"{RESULTS}/logs/tables/{{table}}.log",
    params:
        recipe=lambda wc: recipe_of(wc.table),
    message:
        "table {wildcards.table}"
    shell:
        f"{PYTHON} -m surrodiff.cli table {{wildcards.table}} --recipe {{params.recipe}}"
        f" --results {RESULTS} >> {{log}} 2>&1"


rule figure:
    input:
        lambda wc: made_from(wc.figure, f"{RESULTS}/figures/{wc.figure}.json"),
    output:
        multiext(f"{RESULTS}/figures/{{figure}}", ".png", ".svg", ".json"),
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    params:
        recipe=lambda wc: recipe_of(wc.figure),
    message:
        "figure {wildcards.figure}"
    shell:
        f"{PYTHON} -m surrodiff.cli figure {{wildcards.figure}} --recipe {{params.recipe}}"
        f" --results {RESULTS} >> {{log}} 2>&1"


rule claims:
    input:
        lambda wc: made_from("claims", f"{RESULTS}/claims.json"),
    output:
        multiext(f"{RESULTS}/claims", ".csv", ".json"),
    log:
        f"{RESULTS}/logs/claims.log",
    params:
        recipe=recipe_of("claims"),
    message:
        "claims of the paper, judged"
    shell:
        f"{PYTHON} -m surrodiff.cli claims --recipe {{params.recipe}} --results {RESULTS} >> {{log}} 2>&1"


rule summary:
    input:
        lambda wc: made_from("summary", f"{RESULTS}/summary/summary.json"),
    output:
        [f"{RESULTS}/summary/{name}" for name in ("metrics.json", "rows.csv", "losses.csv", "summary.json")],
    log:
        f"{RESULTS}/logs/summary.log",
    params:
        recipe=recipe_of("summary"),
    message:
        "summary: metrics and curves"
    shell:
        f"{PYTHON} -m surrodiff.cli summary --recipe {{params.recipe}} --results {RESULTS} >> {{log}} 2>&1"


OUTPUTS = [
    *[f"{RESULTS}/tables/{t}.{e}" for t in PLAN.tables for e in ("csv", "md", "json")],
    *[f"{RESULTS}/figures/{f}.{e}" for f in PLAN.figures for e in ("png", "svg", "json")],
    *rules.claims.output,
    *rules.summary.output,
]
