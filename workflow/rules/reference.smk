use rule train as reference with:
    input:
        data=needed("data"),
        classifier=needed("models"),
    output:
        f"{RESULTS}/references/{{run}}/done.json",
    log:
        f"{RESULTS}/logs/references/{{run}}.log",
    message:
        "reference statistics and calibration {wildcards.run} ({params.left})"
