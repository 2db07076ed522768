# ADTR Bench: from images to a report. `snakemake all_tables` runs the study `paper`; another: --config study=NAME


include: "workflow/rules/study.smk"  # parameters: read, resolved and checked before the first job
include: "workflow/rules/resources.smk"  # time and memory, for a cluster
include: "workflow/rules/data.smk"  # generated images, manifests, features
include: "workflow/rules/runs.smk"  # training, evaluation
include: "workflow/rules/results.smk"  # metrics, tables, figures, report


localrules:
    generate,
    tables,
    bars,
    tsne,
    write_report,
    all_tables,
    figures,
    report,
    table1,
    table2,
    table3,
    table4,


onstart:
    stop_without_data()
    tell_leftovers()


rule all_tables:
    default_target: True
    input:
        TABLES,


rule figures:
    input:
        FIGURES,


rule report:
    input:
        REPORTS,


rule table1:
    input:
        table_files("table1"),


rule table2:
    input:
        table_files("table2"),


rule table3:
    input:
        table_files("table3"),


rule table4:
    input:
        table_files("table4"),
