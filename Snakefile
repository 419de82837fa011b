from snakemake.utils import min_version

min_version("9.21.1")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/command.smk"
include: "workflow/rules/demo.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        PATHS.table,
        PATHS.table_data,
        PATHS.comparison,
        PATHS.interpretation,
        rules.draw.output,
        rules.draw_rows.output,
        rules.pages.output,
        lambda wildcards: [file for row in WORKFLOW.selected for file in WORKFLOW.saved_models(row)],
