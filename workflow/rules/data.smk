# Images become manifests, manifests become features; for ADTR+, so do anomalies.


rule generate:
    output:
        "results/generated/{dataset}/.done",
    log:
        "logs/generate/{dataset}.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("data.synthetic"),
        layout=lambda wc: DATASETS[wc.dataset].layout,
        root=lambda wc: DATASETS[wc.dataset].root,
        categories=lambda wc: DATASETS[wc.dataset].categories,
        options=lambda wc: as_options(DATASETS[wc.dataset].generated),
    message:
        "{wildcards.dataset}: generates images"
    shell:
        "adtr generate --layout {params.layout} --root {params.root:q} --categories {params.categories}"
        " {params.options} > {log} 2>&1 && echo {params.options} {params.categories} > {output}"


rule index:
    input:
        generated,
    output:
        "results/manifests/{data}/{category}.csv",
    log:
        "logs/index/{data}/{category}.log",
    priority: 10  # what is wrong with the data is told first
    conda:
        ENVIRONMENT
    params:
        code=code_digest("data.manifest"),
        files=lambda wc: (
            "generated" if generated(wc) else fingerprint(DATA[wc.data], wc.category)
        ),
        options=index_params,
    message:
        "{wildcards.data} {wildcards.category}: reads and checks the images"
    shell:
        "adtr index {params.options} --category {wildcards.category} --output {output} > {log} 2>&1"


rule confetti:
    input:
        "results/manifests/{data}/{category}.csv",
    output:
        "results/confetti/{data}/{bank}/{category}.csv",
    log:
        "logs/confetti/{data}/{bank}/{category}.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("data.confetti"),
        versions=VERSIONS,
        root=lambda wc: DATA[wc.data].root,
        size=lambda wc: BANKS[wc.bank].features.image_size,
        options=lambda wc: as_options(BANKS[wc.bank].confetti),
    message:
        "{wildcards.data} {wildcards.category}: adds confetti"
    shell:
        "adtr confetti --manifest {input} --root {params.root:q} --image-size {params.size} {params.options}"
        " --output {output} > {log} 2>&1"


rule outliers:
    input:
        generated,
    output:
        "results/outliers/{data}/{bank}/outliers.csv",
    log:
        "logs/outliers/{data}/{bank}.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("data.manifest"),
        files=lambda wc: "generated" if generated(wc) else fingerprint(DATA[wc.data]),
        layout=lambda wc: DATA[wc.data].layout,
        root=lambda wc: DATA[wc.data].root,
        versions=VERSIONS,
        images=lambda wc: BANKS[wc.bank].outliers.count,
        seed=lambda wc: BANKS[wc.bank].outliers.seed,
    message:
        "{wildcards.data}: draws outliers"
    shell:
        "adtr outliers --layout {params.layout} --root {params.root:q} --outliers.count {params.images}"
        " --outliers.seed {params.seed} --output {output} > {log} 2>&1"


rule features:
    input:
        member(manifest_with),
    output:
        store="results/features/{data}/{key}/{part}.npy",
        info="results/features/{data}/{key}/{part}.json",
    log:
        "logs/features/{data}/{key}/{part}.log",
    priority: 5  # before any training takes a core
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=features_memory,
        runtime=features_minutes,
    params:
        code=code_digest("features.extract"),
        weights=lambda wc: weights_of(features_of_key(wc)),
        versions=VERSIONS,
        root=root_of_images,
        options=lambda wc: as_options(features_of_key(wc)),
        kept=lambda wc, output: f"state/{Path(output.store).relative_to('results').with_suffix('')}",
    message:
        "{wildcards.data} {wildcards.part}: extracts features"
    shell:
        "adtr features --manifest {input} --part {wildcards.part} --root {params.root:q} {params.options}"
        " --threads {threads} --kept {params.kept} --output {output.store} > {log} 2>&1"


use rule features as features_of_anomalies with:
    input:
        member(bank_manifest),
    output:
        store="results/features/{data}/{key}/{bank}/{part}.npy",
        info="results/features/{data}/{key}/{bank}/{part}.json",
    log:
        "logs/features/{data}/{key}/{bank}/{part}.log",
