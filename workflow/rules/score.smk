# Sampling and scoring are two runs but one process: starting PyTorch takes longer than scoring a few hundred images.
use rule train as score with:
    input:
        models=needed("models", of=lambda run: PLAN.runs[run].config.sample),
        reference=needed("references"),
    output:
        f"{RESULTS}/scores/{{run}}/done.json",
    log:
        f"{RESULTS}/logs/scores/{{run}}.log",
    params:
        start=start,
        runs=lambda wc: [PLAN.runs[wc.run].config.sample, wc.run],
        left=TIME_LEFT,
    message:
        "sample and score {wildcards.run} ({params.left})"


# Only for figures, where the score is there and the samples are not, as after `dvc pull`: they come back from models and
# seeds.
use rule train as sample with:
    input:
        models=needed("models"),
    output:
        f"{RESULTS}/samples/{{run}}/done.json",
    log:
        f"{RESULTS}/logs/samples/{{run}}.log",
    message:
        "sample {wildcards.run}"
