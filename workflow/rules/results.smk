# Scores become tables, figures and the report.


rule tables:
    input:
        metrics=runs(f"{RUN}/metrics.csv"),
        runs=runs(f"{RUN}/run.json"),
        layout="params/tables.yaml",
        paper=expand("params/paper/table{n}.csv", n=[1, 2, 3, 4]),
        claims="params/paper/claims.yaml",
    output:
        in_report(TABLES, ".csv", category="Tables", caption=TABLE_CAPTION),
    log:
        f"logs/{STUDY}/tables.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("tables.stage"),
        plan=PLAN.dump(),
        study=STUDY_OPTIONS,
        results=subpath(output[0], parent=True),
    message:
        "writes the tables"
    shell:
        "adtr tables {params.study} --output {params.results} > {log} 2>&1"


rule plots:
    input:
        metrics=runs(f"{RUN}/metrics.csv"),
        scores=runs(f"{RUN}/scores.csv"),
        histories=runs(f"{RUN}/history.csv"),
    output:
        PLOTS,
    log:
        f"logs/{STUDY}/plots.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("tables.plots"),
        plan=PLAN.dump(),
        study=STUDY_OPTIONS,
        results=subpath(output[0], parent=True),
    message:
        "writes what DVC compares"
    shell:
        "adtr plots {params.study} --output {params.results} > {log} 2>&1"


for dataset in PLAN.datasets:  # each has kinds of its own

    rule:
        name:
            f"draw_{dataset}"
        input:
            runs=member(drawn_runs),
            manifest=manifest_of,
        output:
            in_report(
                category_figures(dataset),
                ".svg",
                category="Figures",
                subcategory="{dataset}",
                labels={"category": "{category}"},
                caption=FIGURE_CAPTION,
            ),
        log:
            f"logs/{STUDY}/figures/{{dataset}}-{{category}}.log",
        wildcard_constraints:
            dataset=dataset,
        group:
            "draw"
        conda:
            ENVIRONMENT
        params:
            code=code_digest("figures.drawing"),
            titles=lambda wc: [PLAN.titles[e] for e in PLAN.study.datasets[wc.dataset]],
            study=STUDY_OPTIONS,
            folder=subpath(output[0], parent=True),
        message:
            "{wildcards.dataset} {wildcards.category}: draws the figures"
        shell:
            "adtr figures {params.study} --dataset {wildcards.dataset} --category {wildcards.category}"
            " --output {params.folder} > {log} 2>&1"


rule differences:
    input:
        manifest=member(manifest_of),
        features=stores_of,
        run=f"{RUN}/run.json",
        params=f"{RUN}/params.yaml",
        model=f"{RUN}/model.safetensors",
    output:
        DIFFERENCES,
    log:
        f"logs/{STUDY}/differences/{{dataset}}/{{experiment}}/{{category}}-{{seed}}.log",
    group:
        "draw"
    conda:
        ENVIRONMENT
    params:
        code=lambda wc: code_digest("evaluate.differences", f"methods.{params_of(wc).method}"),
        root=lambda wc: PLAN.datasets[wc.dataset].root,
        run=subpath(input.run, parent=True),
    message:
        "{wildcards.dataset} {wildcards.category}: draws feature differences of {wildcards.experiment}"
    shell:
        "adtr differences --run {params.run} --manifest {input.manifest} --features {input.features}"
        " --root {params.root:q} --seed 0 --count 600 --output {output} > {log} 2>&1"


rule bars:
    input:
        metrics=f"{RESULTS}/metrics.csv",
        layout="params/tables.yaml",
        paper=expand("params/paper/table{n}.csv", n=[1, 2, 3]),
    output:
        in_report(
            dataset_figures("bars"), ".svg", category="Figures", caption=FIGURE_CAPTION
        ),
    log:
        f"logs/{STUDY}/figures/{{dataset}}-bars.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("figures.drawing"),
        titles=lambda wc: [PLAN.titles[e] for e in PLAN.study.datasets[wc.dataset]],
        study=STUDY_OPTIONS,
        folder=subpath(output[0], parent=True),
    message:
        "{wildcards.dataset}: draws bars beside the paper's"
    shell:
        "adtr figures {params.study} --dataset {wildcards.dataset} --kind bars --output {params.folder} > {log} 2>&1"


rule tsne:
    input:
        difference_files,
    output:
        in_report(
            dataset_figures("tsne"), ".svg", category="Figures", caption=FIGURE_CAPTION
        ),
    log:
        f"logs/{STUDY}/figures/{{dataset}}-tsne.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("figures.drawing"),
        study=STUDY_OPTIONS,
        folder=subpath(output[0], parent=True),
    message:
        "{wildcards.dataset}: lays feature differences in a plane"
    shell:
        "adtr figures {params.study} --dataset {wildcards.dataset} --kind tsne --output {params.folder} > {log} 2>&1"


rule write_report:
    input:
        tables=TABLES,
        figures=FIGURES,
        runs=runs(f"{RUN}/run.json"),
        paper="params/default.yaml",
        sources="params/sources.yaml",
    output:
        REPORTS,
        figures=directory(f"reports/{STUDY}/figures"),
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
