# What all rules that run a command of the package have in common; it makes nothing itself. `localrule` is not inherited.
rule command:
    log:
        f"{LOGS}/command.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
        runtime=LIGHT_MINUTES,
    params:
        command="--help",
        config=CONFIG,
        # The command's code. Its own parameters. And those that follow from inputs and outputs.
        code=None,
        flags=[],
        files=[],
    shell:
        "python3 -m gpt2_ablations {params.command:q} {params.flags:q} --log {log:q} {params.config:q} {params.files:q}"
