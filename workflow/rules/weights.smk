rule fetch_weights:
    input:
        sources=lambda wildcards: local_source_files(
            [WORKFLOW.models[WORKFLOW.model_of_folder(wildcards.model)].source]
        ),
    output:
        weights=f"{PATHS.results}/weights/{{model}}/model.safetensors",
        # Snakemake compares large files by date only. This small file tells whether the weights have changed.
        digest=f"{PATHS.results}/weights/{{model}}/model.safetensors.sha256",
    log:
        f"{LOGS}/fetch_weights/{{model}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        model=lambda wildcards: WORKFLOW.model_of_folder(wildcards.model),
        entry=lambda wildcards: WORKFLOW.models[WORKFLOW.model_of_folder(wildcards.model)].model_dump_json(
            exclude={"source", "label"}
        ),
        source=lambda wildcards: sources_as_parameters(
            [WORKFLOW.models[WORKFLOW.model_of_folder(wildcards.model)].source]
        ),
    shell:
        "python3 -m gpt2_ablations fetch-weights --log {log:q} --config {params.config:q} --model {params.model:q}"
