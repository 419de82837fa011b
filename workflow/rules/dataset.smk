localrules:
    fetch_messages,
    fetch_tokenizer,
    split_messages,
    tokenize,


rule fetch_messages:
    input:
        sources=sources_made_here(PLAN.config.dataset.sources),
        config=CONFIG,
    output:
        PATHS.messages,
    params:
        sources=PLAN.config.dataset.sources,
        sha256=PLAN.config.dataset.sha256,
    log:
        f"{LOGS}/fetch_messages.log",
    conda:
        ENVIRONMENT
    shell:
        "{COMMAND} fetch_messages --log {log:q} --config {input.config:q}"


rule fetch_tokenizer:
    input:
        config=CONFIG,
    output:
        PATHS.tokenizer / "vocab.bpe",
        PATHS.tokenizer / "encoder.json",
    log:
        f"{LOGS}/fetch_tokenizer.log",
    conda:
        ENVIRONMENT
    shell:
        "{COMMAND} fetch_tokenizer --log {log:q} --config {input.config:q}"


rule split_messages:
    input:
        messages=PATHS.messages,
        code=code("dataset"),
        config=CONFIG,
    output:
        train=PATHS.split("train"),
        validation=PATHS.split("validation"),
        test=PATHS.split("test"),
    log:
        f"{LOGS}/split_messages.log",
    conda:
        ENVIRONMENT
    shell:
        "{COMMAND} split_messages --log {log:q} --config {input.config:q}"


rule tokenize:
    input:
        splits=rules.split_messages.output,
        tokenizer=PLAN.tokenizer_files(),
        code=code("tokens"),
        config=CONFIG,
    output:
        PATHS.tokens,
    params:
        tokenizer=PLAN.config.tokenizer.name,
    log:
        f"{LOGS}/tokenize.log",
    conda:
        ENVIRONMENT
    shell:
        "{COMMAND} tokenize --log {log:q} --config {input.config:q}"
