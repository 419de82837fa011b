def experiment_of(wildcards):
    return PLAN.experiments[wildcards.row]


def spec_of(wildcards):
    for row in PLAN.experiments:
        for seed in PLAN.config.seeds:
            if wildcards.identity in PLAN.specs:
                break
            PLAN.features(row, seed)
    return PLAN.specs[wildcards.identity]


def weights_for_features(wildcards):
    spec = spec_of(wildcards)
    return PLAN.weights(spec.model_size, "pretrained" if spec.seed is None else "random")


def weights_for_training(wildcards):
    experiment = experiment_of(wildcards)
    return PLAN.weights(experiment.model_size, experiment.weights)


rule extract_features:
    input:
        tokens=PATHS.tokens,
        weights=lambda wildcards: ancient(weights_for_features(wildcards)[0]),
        digest=lambda wildcards: weights_for_features(wildcards)[1],
        code=code("feature_spec", "features", "model", "tokens", "weights"),
        config=CONFIG,
    output:
        f"{PATHS.results}/features/{{identity}}.safetensors",
    params:
        spec=lambda wildcards: json.dumps(vars(spec_of(wildcards))),
    log:
        f"{LOGS}/extract_features/{{identity}}.log",
    benchmark:
        f"{BENCHMARKS}/extract_features/{{identity}}.tsv"
    threads: lambda wildcards: PLAN.threads(spec_of(wildcards).model_size)
    resources:
        gpu=PLAN.gpus(),
    conda:
        ENVIRONMENT
    shell:
        "{COMMAND} extract_features --log {log:q} --config {input.config:q} --spec {params.spec:q} --output {output:q}"


rule train:
    input:
        tokens=PATHS.tokens,
        features=lambda wildcards: PLAN.features(wildcards.row, int(wildcards.seed)),
        weights=lambda wildcards: ancient(weights_for_training(wildcards)[0]),
        digest=lambda wildcards: weights_for_training(wildcards)[1],
        code=code("batches", "experiment", "model", "tokens", "training", "weights"),
        config=CONFIG,
    output:
        f"{PATHS.results}/rows/{{row}}/seed-{{seed}}/metrics.json",
        f"{PATHS.results}/rows/{{row}}/seed-{{seed}}/history.csv",
        f"{PATHS.results}/rows/{{row}}/seed-{{seed}}/predictions.csv",
    params:
        flags=lambda wildcards: experiment_of(wildcards).flags(),
        features=lambda wildcards, input: ["--features", *input.features] if input.features else [],
        folder=lambda wildcards: PATHS.row(wildcards.row, wildcards.seed),
        dimensions=lambda wildcards: PLAN.models[experiment_of(wildcards).model_size].model_dump(
            exclude={"source", "sha256"}
        ),
        precision=PLAN.config.precision,
    log:
        f"{LOGS}/train/{{row}}/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{row}}/seed-{{seed}}.tsv"
    threads: lambda wildcards: PLAN.threads(experiment_of(wildcards).model_size)
    resources:
        gpu=PLAN.gpus(),
    conda:
        ENVIRONMENT
    shell:
        "{COMMAND} train {params.flags:q} --seed {wildcards.seed} --row {wildcards.row} --log {log:q}"
        " --config {input.config:q} {params.features:q} --output {params.folder:q}"


for row in PLAN.experiments:

    rule:
        name:
            f"row_{row}"
        input:
            PLAN.run_files(row),
