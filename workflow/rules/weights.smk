rule fetch_weights:
    input:
        sources=lambda wildcards: sources_made_here([WORKFLOW.models[WORKFLOW.model_named(wildcards.model)].source]),
    output:
        weights=f"{PATHS.results}/weights/{{model}}/model.safetensors",
        # Large files are compared by date: this small one says whether the weights changed.
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
        model=lambda wildcards: WORKFLOW.model_named(wildcards.model),
        entry=lambda wildcards: WORKFLOW.models[WORKFLOW.model_named(wildcards.model)].model_dump_json(
            exclude={"source", "label"}
        ),
        source=lambda wildcards: sources_as_parameters([WORKFLOW.models[WORKFLOW.model_named(wildcards.model)].source]),
    shell:
        "python3 -m gpt2_ablations fetch_weights --log {log:q} --config {params.config:q} --model {params.model:q}"
