use rule command as fetch_weights with:
    input:
        sources=lambda wildcards: local_source_files([WORKFLOW.model_of_folder(wildcards.model)[1].source]),
    output:
        weights=PATHS.weights_folder / "{model}" / "model.safetensors",
        # Snakemake compares large files by date only. This small file tells whether the weights have changed.
        digest=PATHS.weights_folder / "{model}" / "model.safetensors.sha256",
    log:
        f"{LOGS}/fetch_weights/{{model}}.log",
    localrule: True
    params:
        command="fetch-weights",
        flags=lambda wildcards: ["--model", WORKFLOW.model_of_folder(wildcards.model)[0]],
        entry=lambda wildcards: WORKFLOW.model_of_folder(wildcards.model)[1].model_dump_json(
            exclude={"source", "label"}
        ),
        source=lambda wildcards: sources_as_parameters([WORKFLOW.model_of_folder(wildcards.model)[1].source]),
