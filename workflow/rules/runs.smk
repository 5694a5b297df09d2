# The expensive stages. Each rule's output is a marker in a run's folder; what it stands for belongs to the command,
# because Snakemake deletes the outputs of failed, killed and forced jobs.


rule prepare_data:
    message:
        "data {wildcards.run}"
    output:
        f"{RESULTS}/data/{{run}}/done.json",
    params:
        runs=own_command,
    log:
        f"{RESULTS}/logs/data/{{run}}.log",
    shell:
        MAKE


rule train:
    message:
        "train {wildcards.run}"
    input:
        needed,
    output:
        f"{RESULTS}/models/{{run}}/done.json",
    params:
        runs=own_command,
    log:
        f"{RESULTS}/logs/models/{{run}}.log",
    threads: EXECUTION.threads
    resources:
        gpu=GPUS_PER_JOB,
    shell:
        MAKE


rule reference:
    message:
        "reference statistics and calibration {wildcards.run}"
    input:
        needed,
    output:
        f"{RESULTS}/references/{{run}}/done.json",
    params:
        runs=own_command,
    log:
        f"{RESULTS}/logs/references/{{run}}.log",
    threads: EXECUTION.threads
    resources:
        gpu=GPUS_PER_JOB,
    shell:
        MAKE


# Sampling and scoring are two runs but one process: starting PyTorch takes longer than scoring a few hundred images.
rule sample_and_score:
    message:
        "sample and score {wildcards.run}"
    input:
        needed,
    output:
        f"{RESULTS}/scores/{{run}}/done.json",
    params:
        runs=lambda wc: command(PLAN.runs[wc.run].config["sample"], wc.run),
    log:
        f"{RESULTS}/logs/scores/{{run}}.log",
    threads: EXECUTION.threads
    resources:
        gpu=GPUS_PER_JOB,
    shell:
        MAKE


# All timings in one job that has all cores, so that nothing runs beside them; those already made are found, not remade.
rule time:
    message:
        "time training steps and sampling, alone on the machine"
    output:
        [done("timings", run) for run in PLAN.of_stage("timings")],
    params:
        runs=command(*PLAN.of_stage("timings")),
    log:
        f"{RESULTS}/logs/timings.log",
    threads: workflow.cores
    resources:
        gpu=GPUS_PER_JOB,
    shell:
        MAKE


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
