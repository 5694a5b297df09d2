rule train:
    input:
        data=needed("data"),
    output:
        f"{RESULTS}/models/{{run}}/done.json",
    log:
        f"{RESULTS}/logs/models/{{run}}.log",
    threads: EXECUTION.threads
    resources:
        gpu=gpus,
    params:
        start=start,
        runs="{run}",
        left=TIME_LEFT,
    message:
        "train {wildcards.run} ({params.left})"
    shell:
        RUN_COMMAND
