# The demo's inputs are generated instead of downloaded. config/demo.yaml names them as its sources.
from gpt2_ablations.settings.paths import DEMO_FOLDER


rule generate_messages:
    input:
        code=code("data/demo_language"),
    output:
        f"{DEMO_FOLDER}/SMSSpamCollection",
    log:
        f"{LOGS}/generate_messages.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    shell:
        "python3 -m gpt2_ablations generate-messages --log {log:q} --output {output:q}"


rule pretrain_miniature:
    input:
        code=code("data/demo_language", "gpt2/model", "gpt2/pretraining"),
    output:
        f"{DEMO_FOLDER}/{{stem}}.safetensors",
    log:
        f"{LOGS}/pretrain_miniature/{{stem}}.log",
    benchmark:
        f"{BENCHMARKS}/pretrain_miniature/{{stem}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        model=lambda wildcards, output: next(
            (
                json.dumps({name: model.model_dump(exclude={"label"})})
                for name, model in WORKFLOW.models.items()
                if model.source == output[0]
            ),
            None,
        ),
    shell:
        "python3 -m gpt2_ablations pretrain-miniature --log {log:q} --model {params.model:q} --output {output:q}"
