use rule command as fetch_messages with:
    input:
        sources=local_source_files(WORKFLOW.config.dataset.sources),
    output:
        PATHS.messages,
    log:
        f"{LOGS}/fetch_messages.log",
    localrule: True
    params:
        command="fetch-messages",
        sources=lambda wildcards: sources_as_parameters(WORKFLOW.config.dataset.sources),
        sha256=WORKFLOW.config.dataset.sha256,


use rule command as fetch_tokenizer with:
    output:
        PATHS.tokenizer / "vocab.bpe",
        PATHS.tokenizer / "encoder.json",
    log:
        f"{LOGS}/fetch_tokenizer.log",
    localrule: True
    params:
        command="fetch-tokenizer",


use rule command as split_messages with:
    input:
        messages=PATHS.messages,
    output:
        train=PATHS.split("train"),
        validation=PATHS.split("validation"),
        test=PATHS.split("test"),
    log:
        f"{LOGS}/split_messages.log",
    localrule: True
    params:
        command="split-messages",
        code=command_digest("split-messages"),
        written=lambda wildcards: json.dumps(vars(WORKFLOW.config.dataset.format)),


use rule command as tokenize with:
    input:
        splits=rules.split_messages.output,
        tokenizer=WORKFLOW.tokenizer_files(),
    output:
        PATHS.tokens,
    log:
        f"{LOGS}/tokenize.log",
    localrule: True
    params:
        command="tokenize",
        code=command_digest("tokenize"),
        tokenizer=WORKFLOW.config.tokenizer.name,
