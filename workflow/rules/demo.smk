# The demo's inputs are generated instead of downloaded. config/demo.yaml names them as its sources.
from gpt2_ablations.settings.paths import DEMO_FOLDER


use rule command as generate_messages with:
    output:
        f"{DEMO_FOLDER}/SMSSpamCollection",
    log:
        f"{LOGS}/generate_messages.log",
    localrule: True
    params:
        command="generate-messages",
        config=[],
        code=command_digest("generate-messages"),
        files=lambda wildcards, output: ["--output", *output],


use rule command as pretrain_miniature with:
    output:
        f"{DEMO_FOLDER}/{{stem}}.safetensors",
    log:
        f"{LOGS}/pretrain_miniature/{{stem}}.log",
    benchmark:
        f"{BENCHMARKS}/pretrain_miniature/{{stem}}.tsv"
    params:
        command="pretrain-miniature",
        config=[],
        code=command_digest("pretrain-miniature"),
        flags=lambda wildcards: ["--model", WORKFLOW.miniature(f"{DEMO_FOLDER}/{wildcards.stem}.safetensors")],
        files=lambda wildcards, output: ["--output", *output],
