rule fetch_messages:
    input:
        sources=local_source_files(WORKFLOW.config.dataset.sources),
    output:
        PATHS.messages,
    log:
        f"{LOGS}/fetch_messages.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        sources=lambda wildcards: sources_as_parameters(WORKFLOW.config.dataset.sources),
        sha256=WORKFLOW.config.dataset.sha256,
    shell:
        "python3 -m gpt2_ablations fetch-messages --log {log:q} --config {params.config:q}"


rule fetch_tokenizer:
    output:
        PATHS.tokenizer / "vocab.bpe",
        PATHS.tokenizer / "encoder.json",
    log:
        f"{LOGS}/fetch_tokenizer.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
    shell:
        "python3 -m gpt2_ablations fetch-tokenizer --log {log:q} --config {params.config:q}"


rule split_messages:
    input:
        messages=PATHS.messages,
        code=code("data/dataset"),
    output:
        train=PATHS.split("train"),
        validation=PATHS.split("validation"),
        test=PATHS.split("test"),
    log:
        f"{LOGS}/split_messages.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        written=lambda wildcards: json.dumps(vars(WORKFLOW.config.dataset.format)),
    shell:
        "python3 -m gpt2_ablations split-messages --log {log:q} --config {params.config:q}"


rule tokenize:
    input:
        splits=rules.split_messages.output,
        tokenizer=WORKFLOW.tokenizer_files(),
        code=code("data/tokens"),
    output:
        PATHS.tokens,
    log:
        f"{LOGS}/tokenize.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        tokenizer=WORKFLOW.config.tokenizer.name,
    shell:
        "python3 -m gpt2_ablations tokenize --log {log:q} --config {params.config:q}"
