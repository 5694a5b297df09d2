use rule train as likelihood with:
    input:
        data=needed("data"),
        model=needed("models"),
    output:
        f"{RESULTS}/likelihoods/{{run}}/done.json",
    log:
        f"{RESULTS}/logs/likelihoods/{{run}}.log",
    message:
        "likelihood {wildcards.run} ({params.left})"
