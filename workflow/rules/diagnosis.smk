use rule train as diagnosis with:
    input:
        data=needed("data"),
        model=needed("models"),
        before=lambda wc: made_before(PLAN.runs[wc.run].config.model.run),
    output:
        f"{RESULTS}/diagnoses/{{run}}/done.json",
    log:
        f"{RESULTS}/logs/diagnoses/{{run}}.log",
    message:
        "diagnosis {wildcards.run} ({params.left})"
