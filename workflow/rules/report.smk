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
rule table:
    input:
        runs=RUNS,
        code=code("common/markdown", "settings/labels", "runs/finished_runs", "reports/table", "reports/wording"),
    output:
        markdown=PATHS.table,
        data=PATHS.table_data,
    log:
        f"{LOGS}/table.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        rows=lambda wildcards: SETTINGS,
    shell:
        "python3 -m gpt2_ablations table --log {log:q} --config {params.config:q}"


rule compare:
    input:
        runs=rules.table.output.data,
        published=WORKFLOW.config.published or [],
        code=code(
            "reports/comparison",
            "settings/labels",
            "common/markdown",
            "settings/published",
            "runs/finished_runs",
            "reports/statistics",
            "reports/wording",
        ),
    output:
        PATHS.comparison,
    log:
        f"{LOGS}/compare.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        rows=lambda wildcards: SETTINGS,
    shell:
        "python3 -m gpt2_ablations compare --log {log:q} --config {params.config:q}"


rule interpret:
    input:
        runs=rules.table.output.data,
        questions=WORKFLOW.config.comparisons,
        code=code(
            "reports/interpretation",
            "settings/labels",
            "reports/measures",
            "reports/paired",
            "settings/questions",
            "runs/run_tables",
            "runs/finished_runs",
            "reports/statistics",
            "reports/wording",
        ),
    output:
        PATHS.interpretation,
    log:
        f"{LOGS}/interpret.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        rows=lambda wildcards: SETTINGS,
    shell:
        "python3 -m gpt2_ablations interpret --log {log:q} --config {params.config:q}"


rule draw:
    input:
        runs=rules.table.output.data,
        published=WORKFLOW.config.published or [],
        code=code(
            "reports/figures/curves",
            "reports/figures/style",
            "settings/labels",
            "reports/figures/draw",
            "reports/figures/place_labels",
            "reports/figures/row_figures",
            "runs/run_tables",
            "runs/finished_runs",
            "reports/statistics",
        ),
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
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        rows=lambda wildcards: SETTINGS,
    shell:
        "python3 -m gpt2_ablations draw --log {log:q} --config {params.config:q}"


# One job draws all rows, at most MOST_ROWS: starting a job takes longer than drawing a row.
rule draw_rows:
    input:
        runs=rules.table.output.data,
        code=code(
            "reports/figures/curves",
            "reports/figures/style",
            "settings/labels",
            "reports/figures/draw",
            "runs/run_tables",
            "runs/finished_runs",
        ),
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
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        rows=lambda wildcards: SETTINGS,
        drawn=[f"--row={row}" for row in DRAWN],
    shell:
        "python3 -m gpt2_ablations draw-rows --log {log:q} --config {params.config:q} {params.drawn:q}"


# The report shows HTML pages, not markdown. One job writes them all.
rule pages:
    input:
        runs=rules.table.output.data,
        tables=[PATHS.table, PATHS.comparison, PATHS.interpretation],
        configuration=[WORKFLOW.config.experiments, WORKFLOW.config.models],
        code=code("settings/labels", "reports/pages", "runs/finished_runs"),
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
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        rows=lambda wildcards: SETTINGS,
        settings=lambda wildcards: WORKFLOW.config.model_dump_json(),
    shell:
        "python3 -m gpt2_ablations pages --log {log:q} --config {params.config:q}"


# Reports on the runs that are finished. No run is an input, so nothing is trained.
rule partial:
    log:
        [f"{LOGS}/partial/{command}.log" for command in REPORTS],
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        logs=f"{LOGS}/partial",
        commands=REPORTS,
    shell:
        "for command in {params.commands:q}; do"
        " python3 -m gpt2_ablations $command --log {params.logs:q}/$command.log --config {params.config:q}; done"


# Without a declared output, this rule always runs, and also reverts an edit by hand.
rule readme:
    input:
        PATHS.table,
    log:
        f"{LOGS}/readme.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        readme=lambda wildcards: README,
    shell:
        "python3 -m gpt2_ablations readme --log {log:q} --config {params.config:q} --readme {params.readme:q}"


rule check_readme:
    input:
        PATHS.table,
    log:
        f"{LOGS}/check_readme.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **LIGHT,
    params:
        config=CONFIG,
        readme=lambda wildcards: README,
    shell:
        "python3 -m gpt2_ablations readme --check --log {log:q} --config {params.config:q} --readme {params.readme:q}"
