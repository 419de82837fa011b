from gpt2_ablations.reports.figures import MOST_ROWS
from gpt2_ablations.settings.labels import display_name

RUNS = [file for row in WORKFLOW.selected for file in WORKFLOW.run_files(row)]
# A digest, because Snakemake stores a rule's parameters with each of its outputs.
SETTINGS = digest(
    "\n".join(
        f"{row} {display_name(experiment.model_size, WORKFLOW.models)} {' '.join(experiment.flags())}"
        for row, experiment in WORKFLOW.selected.items()
    )
)
DRAWN = list(WORKFLOW.selected)[:MOST_ROWS]
FIGURES = {
    "accuracy": "Test accuracy of all rows",
    "time": "Training time against test accuracy",
    "gap": "Gap between training and validation accuracy",
    "loss_curves": "Losses of all rows",
    "accuracy_curves": "Accuracies of all rows",
}
TABLES = {"table": "Table", "comparison": "Published and reproduced", "interpretation": "Interpretation"}
REPORTS = ["table", "compare", "interpret", "draw", "draw_rows", "pages"]
LABELS = WORKFLOW.report_labels()
README = CHECKOUT / "README.md"


# Only this rule lists the runs. The other reports read them too, but depend on the table's data, which changes with
# every run: with one list, Snakemake plans thousands of runs several times as fast.
use rule command as table with:
    input:
        runs=RUNS,
    output:
        markdown=PATHS.table,
        data=PATHS.table_data,
    log:
        f"{LOGS}/table.log",
    localrule: True
    params:
        command="table",
        code=command_digest("table"),
        rows=lambda wildcards: SETTINGS,


use rule command as compare with:
    input:
        runs=rules.table.output.data,
        published=WORKFLOW.config.published or [],
    output:
        PATHS.comparison,
    log:
        f"{LOGS}/compare.log",
    localrule: True
    params:
        command="compare",
        code=command_digest("compare"),
        rows=lambda wildcards: SETTINGS,


use rule command as interpret with:
    input:
        runs=rules.table.output.data,
        questions=WORKFLOW.config.comparisons,
    output:
        PATHS.interpretation,
    log:
        f"{LOGS}/interpret.log",
    localrule: True
    params:
        command="interpret",
        code=command_digest("interpret"),
        rows=lambda wildcards: SETTINGS,


use rule command as draw with:
    input:
        runs=rules.table.output.data,
        published=WORKFLOW.config.published or [],
    output:
        png=[f"{PATHS.plots}/{name}.png" for name in FIGURES],
        svg=[
            report(
                f"{PATHS.plots}/{name}.svg",
                caption=f"../report/{name}.rst",
                category="Figures",
                labels={"figure": title},
            )
            for name, title in FIGURES.items()
        ],
    log:
        f"{LOGS}/draw.log",
    localrule: True
    params:
        command="draw",
        code=command_digest("draw"),
        rows=lambda wildcards: SETTINGS,


# One job draws all rows, at most MOST_ROWS: starting a job takes longer than drawing a row.
use rule command as draw_rows with:
    input:
        runs=rules.table.output.data,
    output:
        png=[f"{PATHS.plots}/rows/curves_{row}.png" for row in DRAWN],
        svg=[
            report(
                f"{PATHS.plots}/rows/curves_{row}.svg",
                caption="../report/rows.rst",
                category="Row curves",
                labels={"row": label},
            )
            for row, label in LABELS.items()
            if row in DRAWN
        ],
    log:
        f"{LOGS}/draw_rows.log",
    localrule: True
    params:
        command="draw-rows",
        code=command_digest("draw-rows"),
        rows=lambda wildcards: SETTINGS,
        flags=[f"--row={row}" for row in DRAWN],


# The report shows HTML pages, not markdown. One job writes them all.
use rule command as pages with:
    input:
        runs=rules.table.output.data,
        tables=[PATHS.table, PATHS.comparison, PATHS.interpretation],
        configuration=[WORKFLOW.config.experiments, WORKFLOW.config.models],
    output:
        tables=[
            report(
                PATHS.page(name),
                caption=f"../report/{name}.rst",
                category="Tables",
                labels={"table": title},
            )
            for name, title in TABLES.items()
        ],
        configuration=report(
            PATHS.page("configuration"),
            caption="../report/configuration.rst",
            category="Configuration",
            labels={"file": "Merged configuration"},
        ),
        rows=[
            report(
                PATHS.row_page(row),
                caption="../report/row_log.rst",
                category="Row logs",
                labels={"row": label},
            )
            for row, label in LABELS.items()
        ],
    log:
        f"{LOGS}/pages.log",
    localrule: True
    params:
        command="pages",
        code=command_digest("pages"),
        rows=lambda wildcards: SETTINGS,
        settings=digest(WORKFLOW.config.model_dump_json()),


# Reports on the runs that are finished. No run is an input, so nothing is trained.
rule partial:
    log:
        [f"{LOGS}/partial/{command}.log" for command in REPORTS],
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
        runtime=LIGHT_MINUTES,
    params:
        config=CONFIG,
        logs=f"{LOGS}/partial",
        commands=REPORTS,
    shell:
        "for command in {params.commands:q}; do"
        " python3 -m gpt2_ablations $command --log {params.logs:q}/$command.log {params.config:q}; done"


# Without a declared output, this rule always runs, and also reverts an edit by hand.
use rule command as readme with:
    input:
        PATHS.table,
    log:
        f"{LOGS}/readme.log",
    localrule: True
    params:
        command="readme",
        flags=lambda wildcards: ["--readme", str(README)],


use rule command as check_readme with:
    input:
        PATHS.table,
    log:
        f"{LOGS}/check_readme.log",
    localrule: True
    params:
        command="readme",
        flags=lambda wildcards: ["--check", "--readme", str(README)],
