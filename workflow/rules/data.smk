# Images become manifests, manifests become features.


rule generate:
    output:
        "data/generated/{dataset}/.done",
    log:
        "logs/generate/{dataset}.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("generated"),
        layout=lambda wc: PLAN.datasets[wc.dataset].layout,
        root=lambda wc: PLAN.datasets[wc.dataset].root,
        categories=lambda wc: PLAN.datasets[wc.dataset].categories,
        options=lambda wc: as_options(PLAN.datasets[wc.dataset].generated),
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
        code=code_digest("datasets"),
        files=lambda wc: (
            "generated" if generated(wc) else fingerprint(DATA[wc.data], wc.category)
        ),
        options=index_params,
    message:
        "{wildcards.data} {wildcards.category}: reads and checks the images"
    shell:
        "adtr index {params.options} --category {wildcards.category} --output {output} > {log} 2>&1"


rule features:
    input:
        manifest_with,
    output:
        store="results/features/{data}/{key}/{part}.npy",
        info="results/features/{data}/{key}/{part}.json",
    log:
        "logs/features/{data}/{key}/{part}.log",
    priority: 5  # before any training takes a core
    conda:
        ENVIRONMENT
    threads: 2
    params:
        code=code_digest("features"),
        weights=lambda wc: weights_of(features_of_key(wc)),
        versions=VERSIONS,
        root=lambda wc: DATA[wc.data].root,
        options=lambda wc: as_options(features_of_key(wc)),
    message:
        "{wildcards.data} {wildcards.part}: extracts features"
    shell:
        "adtr features --manifest {input} --part {wildcards.part} --root {params.root:q} {params.options}"
        " --threads {threads} --output {output.store} > {log} 2>&1"
