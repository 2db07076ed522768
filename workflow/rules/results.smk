# Scores become tables, figures and the report.


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
        study=STUDY_OPTIONS,
        results=subpath(output[0], parent=True),
    message:
        "writes the tables"
    shell:
        "adtr tables {params.study} --output {params.results} > {log} 2>&1"


rule draw:
    input:
        runs=lambda wc: [
            f"{RESULTS}/{wc.dataset}/{e}/{wc.category}/{PLAN.study.seeds[0]}/{name}"
            for e in PLAN.study.datasets[wc.dataset]
            for name in ("scores.csv", "maps.npy", "history.csv")
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
        study=STUDY_OPTIONS,
        folder=subpath(output[0], parent=True),
    message:
        "{wildcards.dataset} {wildcards.category}: draws the figures"
    shell:
        "adtr figures {params.study} --dataset {wildcards.dataset} --category {wildcards.category}"
        " --output {params.folder} > {log} 2>&1"


rule write_report:
    input:
        tables=TABLES,
        figures=FIGURES,
        runs=runs(f"{RUN}/run.json"),
        paper="params/default.yaml",
    output:
        REPORTS,
    log:
        f"logs/{STUDY}/report.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("report"),
        study=STUDY_OPTIONS,
        results=lambda wc, input: Path(input.tables[0]).parent,
        folder=subpath(output[0], parent=True),
    message:
        "writes the report"
    shell:
        "adtr report {params.study} --results {params.results} --output {params.folder} > {log} 2>&1"
