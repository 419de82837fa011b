rule extract_features:
    input:
        tokens=PATHS.tokens,
        weights=lambda wildcards: ancient(WORKFLOW.feature_weight_files(wildcards.identity)),
        digest=lambda wildcards: WORKFLOW.digest_files(WORKFLOW.feature_weight_files(wildcards.identity)),
        code=code(
            "settings/feature_spec",
            "finetuning/feature_files",
            "finetuning/features",
            "gpt2/model",
            "data/tokens",
            "gpt2/weights",
        ),
    output:
        f"{PATHS.results}/features/{{identity}}.safetensors",
    log:
        f"{LOGS}/extract_features/{{identity}}.log",
    benchmark:
        f"{BENCHMARKS}/extract_features/{{identity}}.tsv"
    # On GPUs, starting up takes longer than computing. Rows that need features can start earlier.
    priority: int(WORKFLOW.machine_gpus() > 0)
    conda:
        ENVIRONMENT
    threads: lambda wildcards: WORKFLOW.threads(WORKFLOW.spec(wildcards.identity).model_size)
    resources:
        gpu=WORKFLOW.gpus_per_job(),
        features=int(WORKFLOW.machine_gpus() > 0),
        mem_mb=lambda wildcards, attempt, threads: WORKFLOW.feature_resources(wildcards.identity, threads).mem_mb(
            attempt
        ),
        runtime=lambda wildcards, attempt, threads: WORKFLOW.feature_resources(wildcards.identity, threads).runtime(
            attempt
        ),
        disk_mb=lambda wildcards, threads: WORKFLOW.feature_resources(wildcards.identity, threads).disk_mb,
    params:
        config=CONFIG,
        spec=lambda wildcards: json.dumps(vars(WORKFLOW.spec(wildcards.identity))),
    shell:
        "python3 -m gpt2_ablations extract-features --log {log:q} --config {params.config:q} --spec {params.spec:q} --output {output:q}"


rule train:
    input:
        tokens=PATHS.tokens,
        features=lambda wildcards: WORKFLOW.feature_files(wildcards.row, int(wildcards.seed)),
        weights=lambda wildcards: ancient(WORKFLOW.weight_files(wildcards.row)),
        digest=lambda wildcards: WORKFLOW.digest_files(WORKFLOW.weight_files(wildcards.row)),
        code=code(*TRAINING_CODE),
    output:
        f"{PATHS.results}/rows/{{row}}/seed-{{seed}}/metrics.json",
        f"{PATHS.results}/rows/{{row}}/seed-{{seed}}/history.csv",
        f"{PATHS.results}/rows/{{row}}/seed-{{seed}}/predictions.csv",
        [f"{PATHS.results}/rows/{{row}}/seed-{{seed}}/{MODEL_FILE}"] * WORKFLOW.config.keep_models,
    log:
        f"{LOGS}/train/{{row}}/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{row}}/seed-{{seed}}.tsv"
    conda:
        ENVIRONMENT
    threads: lambda wildcards: WORKFLOW.threads(WORKFLOW.experiments[wildcards.row].model_size)
    resources:
        gpu=WORKFLOW.gpus_per_job(),
        mem_mb=lambda wildcards, attempt, threads: WORKFLOW.training_resources(wildcards.row, threads).mem_mb(attempt),
        runtime=lambda wildcards, attempt, threads: WORKFLOW.training_resources(wildcards.row, threads).runtime(attempt),
        disk_mb=lambda wildcards, threads: WORKFLOW.training_resources(wildcards.row, threads).disk_mb,
    params:
        config=CONFIG,
        flags=lambda wildcards: WORKFLOW.experiments[wildcards.row].flags(),
        features=lambda wildcards, input: ["--features", *input.features] if input.features else [],
        folder=lambda wildcards: PATHS.row(wildcards.row, wildcards.seed),
        dimensions=lambda wildcards: WORKFLOW.models[WORKFLOW.experiments[wildcards.row].model_size].dimensions,
        precision=WORKFLOW.config.precision,
    shell:
        "python3 -m gpt2_ablations train {params.flags:q} --seed {wildcards.seed} --row={wildcards.row} --log {log:q}"
        " --config {params.config:q} {params.features:q} --output {params.folder:q}"


for row in WORKFLOW.experiments:

    rule:
        name:
            f"row_{row}"
        # A function, so that Snakemake handles only the files of the rows that are targets.
        input:
            lambda wildcards, row=row: WORKFLOW.run_files(row) + WORKFLOW.saved_models(row),


# Features are kept for further rows and seeds. Once they are removed, the rows that need them are trained again.
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
