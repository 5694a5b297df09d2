# The expensive stages. Each rule's output is a marker in a run's folder; what it stands for belongs to the command,
# because Snakemake deletes the outputs of failed, killed and forced jobs. It deletes their logs, too, so the command
# keeps its own under results/<preset>/logs and tells errors here as well.


rule prepare_data:
    output:
        f"{RESULTS}/data/{{run}}/done.json",
    params:
        start="",
        runs="{run}",
    message:
        "data {wildcards.run}"
    shell:
        RUN_COMMAND


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
        runs="{run}",
        left=TIME_LEFT,
    message:
        "train {wildcards.run} ({params.left})"
    shell:
        RUN_COMMAND


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
        runs="{run}",
        left=TIME_LEFT,
    message:
        "reference statistics and calibration {wildcards.run} ({params.left})"
    shell:
        RUN_COMMAND


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
        runs=lambda wc: [PLAN.runs[wc.run].config["sample"], wc.run],
        left=TIME_LEFT,
    message:
        "sample and score {wildcards.run} ({params.left})"
    shell:
        RUN_COMMAND


# Only for figures, where the score is there and the samples are not, as after `dvc pull`: they come back from models and
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
        runs="{run}",
    message:
        "sample {wildcards.run}"
    shell:
        RUN_COMMAND


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
        runs="{run}",
        left=TIME_LEFT,
    message:
        "likelihood {wildcards.run} ({params.left})"
    shell:
        RUN_COMMAND


# All timings in one job that has all cores, so that nothing runs beside them; those already made are found, not remade.
rule time:
    output:
        [done("timings", run) for run in PLAN.of_stage("timings")],
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
