localrules:
    table,
    compare,
    interpret,
    draw,
    draw_rows,
    page,
    partial,
    readme,
    check_readme,


RUNS = [file for row in PLAN.selected for file in PLAN.run_files(row)]
SETTINGS = [f"{row} {' '.join(experiment.flags())}" for row, experiment in PLAN.selected.items()]
PICTURES = {
    "accuracy": "Test accuracy of all rows",
    "time": "Training time against test accuracy",
    "gap": "Gap between training and validation accuracy",
    "loss_curves": "Losses of all rows",
    "accuracy_curves": "Accuracies of all rows",
}
PAGES = {"table": "Table", "comparison": "Published and reproduced", "interpretation": "Interpretation"}
README = Path(workflow.basedir) / "README.md"


rule table:
    input:
        runs=RUNS,
        code=code("markdown", "runs", "table"),
    output:
        markdown=PATHS.table,
        data=PATHS.table_data,
    log:
        f"{LOGS}/table.log",
    conda:
        ENVIRONMENT
    params:
        config=CONFIG,
        rows=lambda wildcards: SETTINGS,
    shell:
        "python3 -m gpt2_ablations table --log {log:q} --config {params.config:q}"


rule compare:
    input:
        runs=RUNS,
        published=PLAN.config.published,
        code=code(
            "analysis/comparison",
            "analysis/labels",
            "markdown",
            "analysis/published",
            "runs",
            "analysis/statistics",
            "analysis/wording",
        ),
    output:
        PATHS.comparison,
    log:
        f"{LOGS}/compare.log",
    conda:
        ENVIRONMENT
    params:
        config=CONFIG,
        rows=lambda wildcards: SETTINGS,
    shell:
        "python3 -m gpt2_ablations compare --log {log:q} --config {params.config:q}"


rule interpret:
    input:
        runs=RUNS,
        questions=PLAN.config.comparisons,
        code=code(
            "analysis/interpretation",
            "analysis/labels",
            "analysis/measures",
            "analysis/paired",
            "analysis/questions",
            "run_files",
            "runs",
            "analysis/statistics",
            "analysis/wording",
        ),
    output:
        PATHS.interpretation,
    log:
        f"{LOGS}/interpret.log",
    conda:
        ENVIRONMENT
    params:
        config=CONFIG,
        rows=lambda wildcards: SETTINGS,
    shell:
        "python3 -m gpt2_ablations interpret --log {log:q} --config {params.config:q}"


rule draw:
    input:
        runs=RUNS,
        published=PLAN.config.published,
        code=code(
            "plots/curves",
            "plots/figures",
            "analysis/labels",
            "plots/pictures",
            "plots/place_labels",
            "plots/rows",
            "run_files",
            "runs",
            "analysis/statistics",
        ),
    output:
        png=[f"{PATHS.plots}/{name}.png" for name in PICTURES],
        svg=[
            report(
                f"{PATHS.plots}/{name}.svg",
                caption=f"../report/{name}.rst",
                category="Pictures",
                labels={"picture": title},
            )
            for name, title in PICTURES.items()
        ],
    log:
        f"{LOGS}/draw.log",
    conda:
        ENVIRONMENT
    params:
        config=CONFIG,
        rows=lambda wildcards: SETTINGS,
    shell:
        "python3 -m gpt2_ablations draw --log {log:q} --config {params.config:q}"


# One job for all rows: starting one for each would take longer than drawing.
rule draw_rows:
    input:
        runs=RUNS,
        code=code("plots/curves", "plots/figures", "analysis/labels", "plots/pictures", "run_files", "runs"),
    output:
        png=[f"{PATHS.plots}/rows/curves_{row}.png" for row in PLAN.selected],
        svg=[
            report(
                f"{PATHS.plots}/rows/curves_{row}.svg",
                caption="../report/rows.rst",
                category="Rows",
                labels={"row": row, "shows": "losses and accuracies"},
            )
            for row in PLAN.selected
        ],
    log:
        f"{LOGS}/draw_rows.log",
    conda:
        ENVIRONMENT
    params:
        config=CONFIG,
        rows=lambda wildcards: SETTINGS,
    shell:
        "python3 -m gpt2_ablations draw_rows --log {log:q} --config {params.config:q}"


# The report shows pages, not markdown.
rule page:
    input:
        f"{PATHS.results}/{{page}}.md",
    output:
        report(
            f"{PATHS.results}/pages/{{page}}.html",
            caption="../report/page.rst",
            category="Tables",
            labels=lambda wildcards: {"page": PAGES[wildcards.page]},
        ),
    log:
        f"{LOGS}/page/{{page}}.log",
    wildcard_constraints:
        page="|".join(PAGES),
    conda:
        ENVIRONMENT
    shell:
        "python3 -m gpt2_ablations page --log {log:q} --markdown {input:q} --output {output:q}"


# From whatever has run: no row's file is an input, so nothing is trained.
rule partial:
    log:
        f"{LOGS}/partial.log",
    conda:
        ENVIRONMENT
    params:
        config=CONFIG,
    shell:
        "for command in table compare interpret draw; do"
        " python3 -m gpt2_ablations $command --log {log:q} --config {params.config:q}; done"


# No declared output, so that it also mends a hand edit.
rule readme:
    input:
        PATHS.table,
    log:
        f"{LOGS}/readme.log",
    conda:
        ENVIRONMENT
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
    conda:
        ENVIRONMENT
    params:
        config=CONFIG,
        readme=lambda wildcards: README,
    shell:
        "python3 -m gpt2_ablations readme --check --log {log:q} --config {params.config:q} --readme {params.readme:q}"
