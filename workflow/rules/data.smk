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
        "results/manifests/{data}/{category}.csv",
        "results/manifests/{data}/{category}.json",
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
        "results/manifests/{data}/{category}.csv",
        "results/manifests/{data}/{category}.json",
    output:
        "results/shortcuts/{data}/{category}.csv",
        "results/shortcuts/{data}/{category}.json",
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
        "results/manifests/{data}/{category}.csv",
        "results/manifests/{data}/{category}.json",
    output:
        "results/confetti/{data}/{bank}/{category}.csv",
        "results/confetti/{data}/{bank}/{category}.json",
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
        "results/outliers/{data}/{bank}/outliers.csv",
        "results/outliers/{data}/{bank}/outliers.json",
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
        store="results/features/{data}/{key}/{part}.npy",
        info="results/features/{data}/{key}/{part}.json",
    log:
        "logs/features/{data}/{key}/{part}.log",
    priority: 5  # before any training takes a core
    threads: study.features_threads
    resources:
        mem_mb=study.features_memory,
        runtime=study.features_minutes,
        gpu=study.cluster.gpus,
        gpu_slots=study.gpu_slots,
    params:
        decisive=study.store_decisive,
        study=lambda wc, output: study.options,
        store=lambda wc, output: study.store_name(wc),
        kind="",
    shell:
        "adtr features {params.study} {params.kind} {params.store:q} --threads {threads} > {log:q} 2>&1"


use rule features as features_of_anomalies with:
    output:
        store="results/features/{data}/{key}/{bank}/{part}.npy",
        info="results/features/{data}/{key}/{bank}/{part}.json",
    log:
        "logs/features/{data}/{key}/{bank}/{part}.log",
    params:
        decisive=study.store_decisive,
        study=lambda wc, output: study.options,
        store=lambda wc, output: study.store_name(wc),
        kind="--anomalies",
