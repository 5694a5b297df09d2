# All timings in one job that has all cores, so that nothing runs beside them; those already made are found, not remade.
rule time:
    output:
        all_of("timings"),
    log:
        f"{RESULTS}/logs/timings.log",
    threads: 1024  # cut to what there is; a cluster's profile says how many (set-threads)
    resources:
        gpu=GPU,
    params:
        start="",
        runs="timings",
        left=TIME_LEFT,
    message:
        "time training steps and sampling, alone on the machine ({params.left})"
    shell:
        RUN_COMMAND
