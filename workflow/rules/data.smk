# Images become manifests, manifests become features; for ADTR+, so do anomalies.


rule generate:
    output:
        "results/generated/{dataset}/.done",
    log:
        "logs/generate/{dataset}.log",
    params:
        decisive=study.generated_decisive,
        study=lambda wc, output: study.options,
    shell:
        "adtr generate {params.study} {wildcards.dataset:q} > {log:q} 2>&1"


rule index:
    input:
        study.generated,
    output:
        multiext("results/manifests/{data}/{category}", ".csv", ".json"),
    log:
        "logs/index/{data}/{category}.log",
    priority: 10  # what is wrong with the data is reported first
    params:
        decisive=study.index_decisive,
        study=lambda wc, output: study.options,
        dataset=lambda wc, output: study.dataset(wc),
    shell:
        "adtr index {params.study} {params.dataset:q}/{wildcards.category:q} > {log:q} 2>&1"


rule shortcuts:
    input:
        multiext("results/manifests/{data}/{category}", ".csv", ".json"),
    output:
        multiext("results/shortcuts/{data}/{category}", ".csv", ".json"),
    log:
        "logs/shortcuts/{data}/{category}.log",
    params:
        decisive=study.shortcuts_decisive,
        study=lambda wc, output: study.options,
        dataset=lambda wc, output: study.dataset(wc),
    shell:
        "adtr shortcuts {params.study} {params.dataset:q}/{wildcards.category:q} > {log:q} 2>&1"


rule confetti:
    input:
        multiext("results/manifests/{data}/{category}", ".csv", ".json"),
    output:
        multiext("results/confetti/{data}/{bank}/{category}", ".csv", ".json"),
    log:
        "logs/confetti/{data}/{bank}/{category}.log",
    params:
        decisive=study.confetti_decisive,
        study=lambda wc, output: study.options,
        bank=lambda wc, output: study.bank_name(wc),
    shell:
        "adtr confetti {params.study} {params.bank:q}/{wildcards.category:q} > {log:q} 2>&1"


rule outliers:
    input:
        study.generated,
    output:
        multiext("results/outliers/{data}/{bank}/outliers", ".csv", ".json"),
    log:
        "logs/outliers/{data}/{bank}.log",
    params:
        decisive=study.outliers_decisive,
        study=lambda wc, output: study.options,
        bank=lambda wc, output: study.bank_name(wc),
    shell:
        "adtr outliers {params.study} {params.bank:q} > {log:q} 2>&1"


rule features:
    input:
        study.store_manifest,
    output:
        multiext("results/features/{data}/{key}/{part}", ".npy", ".json"),
    log:
        "logs/features/{data}/{key}/{part}.log",
    priority: 5  # before any training takes a core
    threads: study.features_threads
    resources:
        mem_mb=study.features_memory,
        runtime=study.features_minutes,
        gpu=study.cluster.gpus,
        gpu_slots=study.whole_gpu,
    params:
        decisive=study.store_decisive,
        study=lambda wc, output: study.options,
        store=lambda wc, output: study.store_name(wc),
        kind="",
    shell:
        "adtr features {params.study} {params.kind} {params.store:q} --threads {threads} > {log:q} 2>&1"


use rule features as features_of_anomalies with:
    output:
        multiext("results/features/{data}/{key}/{bank}/{part}", ".npy", ".json"),
    log:
        "logs/features/{data}/{key}/{bank}/{part}.log",
    params:
        kind="--anomalies",
