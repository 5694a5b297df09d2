# What may be asked for by name, in the order of the work.
rule data:
    input:
        done("data", PLAN.data),


rule models:
    input:
        all_of("models"),


# A missing one is made again even when its table is there.
rule scores:
    input:
        all_of("scores"),
        all_of("likelihoods"),
        all_of("timings"),
