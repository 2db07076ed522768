# ADTR Bench: from images to a report. `snakemake all_tables` runs the study `paper`; another: --config study=NAME


include: "workflow/rules/study.smk"  # parameters: read, resolved and checked before the first job
include: "workflow/rules/resources.smk"  # time and memory, for a cluster
include: "workflow/rules/data.smk"  # generated images, manifests, features
include: "workflow/rules/runs.smk"  # training, evaluation
include: "workflow/rules/results.smk"  # metrics, tables, figures, report


localrules:
    generate,
    tables,
    plots,
    bars,
    tsne,
    write_report,
    all_features,
    all_runs,
    all_tables,
    figures,
    report,
    table1,
    table2,
    table3,
    table4,


onstart:
    tell_missing_data()
    tell_leftovers()


rule all_tables:
    default_target: True
    input:
        TABLES,
        SCORES,


rule all_features:
    input:
        sorted(
            {path for run in PLAN.runs() for path in inputs_of(*run[:3])},
        ),


rule all_runs:
    input:
        [runs(pattern) for pattern in (*rules.train.output, *rules.evaluate.output)],


rule figures:
    input:
        FIGURES,
        SCORES,


rule report:
    input:
        REPORTS,
        SCORES,


rule table1:
    input:
        table_files("table1"),
        SCORES,


rule table2:
    input:
        table_files("table2"),
        SCORES,


rule table3:
    input:
        table_files("table3"),
        SCORES,


rule table4:
    input:
        table_files("table4"),
        SCORES,
