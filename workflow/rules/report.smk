localrules:
    table,


rule table:
    input:
        runs=[file for row in PLAN.selected for file in PLAN.run_files(row)],
        code=code("markdown", "table"),
        config=CONFIG,
    output:
        markdown=PATHS.table,
        data=PATHS.table_data,
    params:
        rows=list(PLAN.selected),
        settings=[" ".join(row.flags()) for row in PLAN.selected.values()],
    log:
        f"{LOGS}/table.log",
    conda:
        ENVIRONMENT
    shell:
        "{COMMAND} table --log {log:q} --config {input.config:q}"
