# The expensive stages. Each rule's output is a marker in a run's folder; what it stands for belongs to the command,
# because Snakemake deletes the outputs of failed, killed and forced jobs.


rule data_run:
    message:
        "data {wildcards.run}"
    output:
        f"{RESULTS}/data/{{run}}/done.json",
    params:
        config=resolved,
    log:
        f"{RESULTS}/logs/data/{{run}}.log",
    shell:
        step("data")


rule train:
    message:
        "train {wildcards.run}"
    input:
        needed,
    output:
        f"{RESULTS}/models/{{run}}/done.json",
    params:
        config=resolved,
    log:
        f"{RESULTS}/logs/models/{{run}}.log",
    threads: EXECUTION.threads
    resources:
        gpu=GPUS_PER_JOB,
    shell:
        step("train")


rule sample:
    message:
        "sample {wildcards.run}"
    input:
        needed,
    output:
        f"{RESULTS}/samples/{{run}}/done.json",
    params:
        config=resolved,
    log:
        f"{RESULTS}/logs/samples/{{run}}.log",
    threads: EXECUTION.threads
    resources:
        gpu=GPUS_PER_JOB,
    shell:
        step("sample")


rule reference:
    message:
        "reference statistics and calibration {wildcards.run}"
    input:
        needed,
    output:
        f"{RESULTS}/references/{{run}}/done.json",
    params:
        config=resolved,
    log:
        f"{RESULTS}/logs/references/{{run}}.log",
    threads: EXECUTION.threads
    resources:
        gpu=GPUS_PER_JOB,
    shell:
        step("reference")


rule score:
    message:
        "score {wildcards.run}"
    input:
        needed,
    output:
        f"{RESULTS}/scores/{{run}}/done.json",
    params:
        config=resolved,
    log:
        f"{RESULTS}/logs/scores/{{run}}.log",
    threads: EXECUTION.threads
    resources:
        gpu=GPUS_PER_JOB,
    shell:
        step("score")


rule timing:
    message:
        "time {wildcards.run}, alone on the machine"
    output:
        f"{RESULTS}/timings/{{run}}/done.json",
    params:
        config=resolved,
    log:
        f"{RESULTS}/logs/timings/{{run}}.log",
    # All cores: no other job runs beside a timing.
    threads: workflow.cores
    resources:
        gpu=GPUS_PER_JOB,
    shell:
        step("time")


rule data:
    input:
        done("data", PLAN.data),


rule models:
    input:
        [done("models", run) for run in PLAN.of_stage("models")],


rule scores:
    input:
        [done("scores", run) for run in PLAN.of_stage("scores")],
        [done("timings", run) for run in PLAN.of_stage("timings")],
