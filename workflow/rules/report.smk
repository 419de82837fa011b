localrules:
    table,


rule table:
    input:
        runs=[file for row in PLAN.selected for file in PLAN.run_files(row)],
        code=code("markdown", "table"),
    output:
        markdown=PATHS.table,
        data=PATHS.table_data,
    log:
        f"{LOGS}/table.log",
    conda:
        ENVIRONMENT
    params:
        config=CONFIG,
        rows=list(PLAN.selected),
        settings=[" ".join(row.flags()) for row in PLAN.selected.values()],
    shell:
        "python3 -m gpt2_ablations table --log {log:q} --config {params.config:q}"
