# Sampling and scoring are two runs but one process: starting PyTorch takes longer than scoring a few hundred images.
# With `one_job_per_model` the first score's job makes all else of its model, and the jobs of that find it made.
use rule train as score with:
    input:
        models=lambda wc: read_by(wc.run, "models"),
        reference=lambda wc: read_by(wc.run, "references"),
        data=lambda wc: read_by(wc.run, "data"),
        before=lambda wc: made_before(shown(wc.run), wc.run),
        begun=lambda wc: begins_after(wc.run),
    output:
        f"{RESULTS}/scores/{{run}}/done.json",
    log:
        f"{RESULTS}/logs/scores/{{run}}.log",
    params:
        start=start,
        runs=lambda wc: made_by(wc.run),
        left=TIME_LEFT,
    message:
        "sample and score {wildcards.run} ({params.left})"


# Only for figures and refinements, where the score is there and the samples are not, as after `dvc pull`: they come
# back from models and seeds.
use rule train as sample with:
    input:
        models=needed("models"),
        begun=needed("samples"),
        data=needed("data"),
    output:
        f"{RESULTS}/samples/{{run}}/done.json",
    log:
        f"{RESULTS}/logs/samples/{{run}}.log",
    message:
        "sample {wildcards.run}"
