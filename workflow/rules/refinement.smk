def samples_compared(run):
    """The samples that a refinement compares, where it and they are missing and nothing makes them by the way."""
    if pathlib.Path(FOLDER, "refinements", run, "done.json").exists():
        return []
    return [done("samples", sample) for sample in compared(run) if only_scores_are_there(sample)]


def compared(run):
    return [sample for stage, sample in PLAN.runs[run].config.needs() if stage == "samples"]


# The jobs of both scores make the samples.
use rule train as refinement with:
    input:
        scores=lambda wc: [ancient(done("scores", SCORED[sample][0])) for sample in compared(wc.run)],
        samples=lambda wc: samples_compared(wc.run),
        reference=needed("references"),
        data=needed("data"),
    output:
        f"{RESULTS}/refinements/{{run}}/done.json",
    log:
        f"{RESULTS}/logs/refinements/{{run}}.log",
    message:
        "refinement {wildcards.run} ({params.left})"
