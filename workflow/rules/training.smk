use rule command as extract_features with:
    input:
        feature_inputs,
    output:
        PATHS.features("{identity}"),
    log:
        f"{LOGS}/extract_features/{{identity}}.log",
    benchmark:
        f"{BENCHMARKS}/extract_features/{{identity}}.tsv"
    # On GPUs, starting up takes longer than computing. Rows that need features can start earlier.
    priority: int(WORKFLOW.machine_gpus() > 0)
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
        command="extract-features",
        code=command_digest("extract-features"),
        flags=lambda wildcards: ["--spec", json.dumps(vars(WORKFLOW.spec(wildcards.identity)))],
        files=lambda wildcards, output: ["--output", *output],


use rule command as train with:
    input:
        training_inputs,
        features=feature_input,
    output:
        run_outputs("{row}", "{seed}"),
    log:
        f"{LOGS}/train/{{row}}/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{row}}/seed-{{seed}}.tsv"
    threads: asked_often(lambda wildcards: WORKFLOW.threads(WORKFLOW.experiments[wildcards.row].model_size))
    resources:
        gpu=WORKFLOW.gpus_per_job(),
        mem_mb=asked_often(
            lambda wildcards, attempt, threads: WORKFLOW.training_resources(wildcards.row, threads).mem_mb(attempt)
        ),
        runtime=asked_often(
            lambda wildcards, attempt, threads: WORKFLOW.training_resources(wildcards.row, threads).runtime(attempt)
        ),
        disk_mb=asked_often(lambda wildcards, threads: WORKFLOW.training_resources(wildcards.row, threads).disk_mb),
    params:
        command="train",
        # Features are made again for the same reasons as the runs that use them.
        code=command_digest("extract-features", "train"),
        flags=training_flags,
        files=training_files,
        dimensions=asked_often(
            lambda wildcards: WORKFLOW.models[WORKFLOW.experiments[wildcards.row].model_size].dimensions
        ),
        precision=WORKFLOW.config.precision,


for row in WORKFLOW.experiments:

    rule:
        name:
            f"row_{row}"
        # A function, so that Snakemake handles only the files of the rows that are targets.
        input:
            lambda wildcards, row=row: WORKFLOW.run_files(row) + WORKFLOW.saved_models(row),


forget_functions(f"row_{row}" for row in WORKFLOW.experiments)


# The target of a row that does not exist, or of one that is spelled in another way.
rule no_such_row:
    input:
        lambda wildcards: refuse_target(wildcards.target),
    output:
        "{target}",
    log:
        f"{LOGS}/no_such_row/{{target}}.log",
    wildcard_constraints:
        target=r"[Rr]ows?[_-][A-Za-z0-9_-]+|[Rr]ows?[0-9]+",
    localrule: True
    conda:
        ENVIRONMENT
    shell:
        "false > {log:q}"


# Features are kept for further rows and seeds. Those that new runs need are extracted again.
rule clean_features:
    log:
        f"{LOGS}/clean_features.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
        runtime=LIGHT_MINUTES,
    params:
        folder=PATHS.features("*").parent,
    shell:
        "rm -rf {params.folder:q} > {log:q} 2>&1"
