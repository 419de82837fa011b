rule extract_features:
    input:
        tokens=PATHS.tokens,
        weights=lambda wildcards: ancient(PLAN.feature_weights(wildcards.identity)),
        digest=lambda wildcards: PLAN.digests(PLAN.feature_weights(wildcards.identity)),
        code=code("settings/feature_spec", "finetuning/features", "gpt2/model", "data/tokens", "gpt2/weights"),
    output:
        f"{PATHS.results}/features/{{identity}}.safetensors",
    log:
        f"{LOGS}/extract_features/{{identity}}.log",
    benchmark:
        f"{BENCHMARKS}/extract_features/{{identity}}.tsv"
    # On cards starting up takes longer than computing: rows that wait for features should be able to start early.
    priority: int(PLAN.cards() > 0)
    conda:
        ENVIRONMENT
    threads: lambda wildcards: PLAN.threads(PLAN.spec(wildcards.identity).model_size)
    resources:
        gpu=PLAN.gpus(),
        features=int(PLAN.cards() > 0),
        mem_mb=lambda wildcards, attempt, threads: PLAN.feature_request(wildcards.identity, threads).mem_mb(attempt),
        runtime=lambda wildcards, attempt, threads: PLAN.feature_request(wildcards.identity, threads).runtime(attempt),
        disk_mb=lambda wildcards, threads: PLAN.feature_request(wildcards.identity, threads).disk_mb,
    params:
        config=CONFIG,
        spec=lambda wildcards: json.dumps(vars(PLAN.spec(wildcards.identity))),
    shell:
        "python3 -m gpt2_ablations extract_features --log {log:q} --config {params.config:q} --spec {params.spec:q} --output {output:q}"


rule train:
    input:
        tokens=PATHS.tokens,
        features=lambda wildcards: PLAN.features(wildcards.row, int(wildcards.seed)),
        weights=lambda wildcards: ancient(PLAN.row_weights(wildcards.row)),
        digest=lambda wildcards: PLAN.digests(PLAN.row_weights(wildcards.row)),
        code=code(*TRAINING_CODE),
    output:
        f"{PATHS.results}/rows/{{row}}/seed-{{seed}}/metrics.json",
        f"{PATHS.results}/rows/{{row}}/seed-{{seed}}/history.csv",
        f"{PATHS.results}/rows/{{row}}/seed-{{seed}}/predictions.csv",
        [f"{PATHS.results}/rows/{{row}}/seed-{{seed}}/{MODEL_FILE}"] * PLAN.config.keep_models,
    log:
        f"{LOGS}/train/{{row}}/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{row}}/seed-{{seed}}.tsv"
    conda:
        ENVIRONMENT
    threads: lambda wildcards: PLAN.threads(PLAN.experiments[wildcards.row].model_size)
    resources:
        gpu=PLAN.gpus(),
        mem_mb=lambda wildcards, attempt, threads: PLAN.train_request(wildcards.row, threads).mem_mb(attempt),
        runtime=lambda wildcards, attempt, threads: PLAN.train_request(wildcards.row, threads).runtime(attempt),
        disk_mb=lambda wildcards, threads: PLAN.train_request(wildcards.row, threads).disk_mb,
    params:
        config=CONFIG,
        flags=lambda wildcards: PLAN.experiments[wildcards.row].flags(),
        features=lambda wildcards, input: ["--features", *input.features] if input.features else [],
        folder=lambda wildcards: PATHS.row(wildcards.row, wildcards.seed),
        dimensions=lambda wildcards: PLAN.models[PLAN.experiments[wildcards.row].model_size].model_dump(
            exclude={"source", "sha256"}
        ),
        precision=PLAN.config.precision,
    shell:
        "python3 -m gpt2_ablations train {params.flags:q} --seed {wildcards.seed} --row={wildcards.row} --log {log:q}"
        " --config {params.config:q} {params.features:q} --output {params.folder:q}"


for row in PLAN.experiments:

    rule:
        name:
            f"row_{row}"
        # A function: of thousands of rows, only those that are asked for become files.
        input:
            lambda wildcards, row=row: PLAN.run_files(row) + PLAN.kept_models(row),


# Features are kept, for rows and seeds to come. Without them, whatever needs them is computed and trained anew.
rule clean_features:
    log:
        f"{LOGS}/clean_features.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        folder=PATHS.features("*").parent,
    shell:
        "rm -rf {params.folder:q} > {log:q} 2>&1"
