# The expensive stages. Each rule's output is a marker in a run's folder; what it stands for belongs to the command,
# because Snakemake deletes the outputs of failed, killed and forced jobs. It deletes their logs, too, so the command
# keeps its own under results/<preset>/logs and tells errors here as well.


rule prepare_data:
    output:
        f"{RESULTS}/data/{{run}}/done.json",
    params:
        start="",
        runs=own_command,
    message:
        "data {wildcards.run}"
    shell:
        MAKE


rule train:
    input:
        needed,
    output:
        f"{RESULTS}/models/{{run}}/done.json",
    threads: EXECUTION.threads
    resources:
        gpu=gpus,
    params:
        start=start,
        runs=own_command,
    message:
        "train {wildcards.run} ({LEFT})"
    shell:
        MAKE


rule reference:
    input:
        needed,
    output:
        f"{RESULTS}/references/{{run}}/done.json",
    threads: EXECUTION.threads
    resources:
        gpu=gpus,
    params:
        start=start,
        runs=own_command,
    message:
        "reference statistics and calibration {wildcards.run} ({LEFT})"
    shell:
        MAKE


# Sampling and scoring are two runs but one process: starting PyTorch takes longer than scoring a few hundred images.
rule sample_and_score:
    input:
        needed,
    output:
        f"{RESULTS}/scores/{{run}}/done.json",
    threads: EXECUTION.threads
    resources:
        gpu=gpus,
    params:
        start=start,
        runs=lambda wc: command(PLAN.runs[wc.run].config["sample"], wc.run),
    message:
        "sample and score {wildcards.run} ({LEFT})"
    shell:
        MAKE


# Only for pictures, where the score is there and the samples are not, as after `dvc pull`: they come back from models and
# seeds.
rule sample:
    input:
        needed,
    output:
        f"{RESULTS}/samples/{{run}}/done.json",
    threads: EXECUTION.threads
    resources:
        gpu=gpus,
    params:
        start=start,
        runs=own_command,
    message:
        "sample {wildcards.run}"
    shell:
        MAKE


rule likelihood:
    input:
        needed,
    output:
        f"{RESULTS}/likelihoods/{{run}}/done.json",
    threads: EXECUTION.threads
    resources:
        gpu=gpus,
    params:
        start=start,
        runs=own_command,
    message:
        "likelihood {wildcards.run} ({LEFT})"
    shell:
        MAKE


# All timings in one job that has all cores, so that nothing runs beside them; those already made are found, not remade.
rule time:
    output:
        [done("timings", run) for run in PLAN.of_stage("timings")],
    threads: 1024  # cut to what there is; a cluster's profile says how many (set-threads)
    resources:
        gpu=GPU,
    params:
        start="",
        runs=command(*PLAN.of_stage("timings")),
    message:
        "time training steps and sampling, alone on the machine ({LEFT})"
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
        [done("likelihoods", run) for run in PLAN.of_stage("likelihoods")],
        [done("timings", run) for run in PLAN.of_stage("timings")],
