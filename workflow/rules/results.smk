# Scores become tables, figures and the report.

RESULTS = study.paths.results


rule tables:
    input:
        metrics=study.runs("metrics.csv", "scores.csv", "pixels.npz", "evaluation.json"),
        runs=study.runs("run.json"),
        shortcuts=study.shortcuts,
        paper=study.printed(1, 2, 3, 4),
    output:
        report(study.tables, category="Tables", caption="../report/tables.rst"),
    log:
        f"logs/{study.name}/tables.log",
    params:
        decisive=study.study_decisive("tables"),
        study=lambda wc, output: study.options,
    shell:
        "adtr tables {params.study} > {log:q} 2>&1"


rule plots:
    input:
        metrics=study.runs("metrics.csv", "scores.csv", "evaluation.json"),
        histories=study.runs("history.csv", "run.json"),
    output:
        study.plots,
    log:
        f"logs/{study.name}/plots.log",
    params:
        decisive=study.study_decisive("plots"),
        study=lambda wc, output: study.options,
    shell:
        "adtr plots {params.study} > {log:q} 2>&1"


rule differences:
    input:
        study.manifest,
        study.stores,
        [f"{RUN}/{name}" for name in ("run.json", "params.yaml", "model.safetensors")],
    output:
        multiext(f"{RESULTS}/differences/{{run}}", ".npz", ".json"),
    log:
        f"logs/{study.name}/differences/{{run}}.log",
    resources:
        gpu_slots=study.quarter_gpu,
    params:
        decisive=study.differences_decisive,
        study=lambda wc, output: study.options,
    shell:
        "adtr differences {params.study} {wildcards.run:q} > {log:q} 2>&1"


rule category_figures:
    input:
        study.category_inputs,
    output:
        report(
            directory(f"{RESULTS}/figures/categories/{{dataset}}/{{category}}"),
            patterns=["{kind}.svg"],
            category="Figures",
            subcategory="{dataset}",
            labels={"category": "{category}", "figure": "{kind}"},
            caption="../report/figures.rst",
        ),
    log:
        f"logs/{study.name}/figures/{{dataset}}/{{category}}.log",
    params:
        decisive=study.study_decisive("figures"),
        study=lambda wc, output: study.options,
    shell:
        "adtr figures {params.study} {wildcards.dataset:q}/{wildcards.category:q} > {log:q} 2>&1"


rule dataset_figures:
    input:
        study.dataset_inputs,
        paper=study.printed(1, 2, 3),
    output:
        report(
            directory(f"{RESULTS}/figures/datasets/{{dataset}}"),
            patterns=["{kind}.svg"],
            category="Figures",
            labels={"data set": "{dataset}", "figure": "{kind}"},
            caption="../report/figures.rst",
        ),
    log:
        f"logs/{study.name}/figures/{{dataset}}.log",
    params:
        decisive=study.study_decisive("figures"),
        study=lambda wc, output: study.options,
    shell:
        "adtr figures {params.study} {wildcards.dataset:q} > {log:q} 2>&1"


rule write_report:
    input:
        tables=study.tables,
        figures=study.figures,
        runs=study.runs("run.json"),
        manifests=study.manifest_records,
        shortcuts=study.shortcuts,
        params=[f"{study.params_folder}/{name}.yaml" for name in ("default", "sources")],
    output:
        study.reports,
        figures=directory(f"{study.paths.report}/figures"),
    log:
        f"logs/{study.name}/report.log",
    params:
        decisive=study.study_decisive("report"),
        study=lambda wc, output: study.options,
    shell:
        "adtr report {params.study} > {log:q} 2>&1"
