rule prepare_data:
    output:
        f"{RESULTS}/data/{{run}}/done.json",
    log:
        f"{RESULTS}/logs/data/{{run}}.log",
    params:
        start="",
        runs="{run}",
    message:
        "data {wildcards.run}"
    shell:
        RUN_COMMAND
