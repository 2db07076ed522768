# Scores become tables, figures and the report.

from adtr.tables import table_names


def table_files(*names):
    return expand(
        f"{RESULTS}/tables/{{name}}.{{suffix}}", name=names, suffix=["csv", "md", "tex"]
    )


def read(path):
    with open(path) as file:
        return file.read()


TABLES = [
    f"{RESULTS}/metrics.csv",
    f"{RESULTS}/study.yaml",
    *table_files(*table_names(PLAN)),
]
KINDS = ["roc", "histogram", "training", "gallery"]
FIGURES = [
    f"{RESULTS}/figures/{dataset}/{category}-{kind}.{suffix}"
    for dataset, definition in PLAN.datasets.items()
    for category in definition.categories
    for kind in KINDS
    for suffix in ("png", "svg")
]
REPORTS = [f"reports/{STUDY}/report.html", f"reports/{STUDY}/report.md"]


rule tables:
    input:
        metrics=runs(f"{RUN}/metrics.csv"),
        layout="params/tables.yaml",
        paper=expand("params/paper/table{n}.csv", n=[1, 2, 3, 4]),
    output:
        TABLES,
    log:
        f"logs/{STUDY}/tables.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("tables"),
        plan=PLAN.dump(),
    message:
        "writes the tables"
    shell:
        "adtr tables {STUDY_OPTIONS} --output {RESULTS} > {log} 2>&1"


rule draw:
    input:
        scores=lambda wc: [
            f"{RESULTS}/{d}/{e}/{c}/{s}/scores.csv"
            for d, e, c, s in PLAN.runs()
            if (d, c) == (wc.dataset, wc.category)
        ],
        manifest=manifest_of,
    output:
        expand(
            f"{RESULTS}/figures/{{{{dataset}}}}/{{{{category}}}}-{{kind}}.{{suffix}}",
            kind=KINDS,
            suffix=["png", "svg"],
        ),
    log:
        f"logs/{STUDY}/figures/{{dataset}}-{{category}}.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("figures"),
        titles=lambda wc: [PLAN.titles[e] for e in PLAN.study.datasets[wc.dataset]],
    message:
        "{wildcards.dataset} {wildcards.category}: draws the figures"
    shell:
        "adtr figures {STUDY_OPTIONS} --dataset {wildcards.dataset} --category {wildcards.category}"
        " --output {RESULTS}/figures/{wildcards.dataset} > {log} 2>&1"


rule write_report:
    input:
        TABLES,
        FIGURES,
    output:
        REPORTS,
    log:
        f"logs/{STUDY}/report.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("report"),
    message:
        "writes the report"
    shell:
        "adtr report {STUDY_OPTIONS} --results {RESULTS} --output reports/{STUDY} > {log} 2>&1"
