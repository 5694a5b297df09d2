use rule train as likelihood with:
    input:
        data=needed("data"),
        model=needed("models"),
        before=lambda wc: made_before(PLAN.runs[wc.run].config.model.run),
    output:
        f"{RESULTS}/likelihoods/{{run}}/done.json",
    log:
        f"{RESULTS}/logs/likelihoods/{{run}}.log",
    message:
        "likelihood {wildcards.run} ({params.left})"
