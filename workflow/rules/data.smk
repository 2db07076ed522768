# Images become manifests, manifests become features.


rule generate:
    output:
        touch("data/generated/{dataset}/.done"),
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
        " {params.options} > {log} 2>&1"


rule index:
    input:
        generated,
    output:
        "results/manifests/{dataset}/{category}.csv",
    log:
        "logs/index/{dataset}/{category}.log",
    priority: 10  # what is wrong with the data is told first
    conda:
        ENVIRONMENT
    params:
        code=code_digest("datasets"),
        files=lambda wc: (
            "generated"
            if generated(wc)
            else fingerprint(PLAN.datasets[wc.dataset], wc.category)
        ),
        options=index_params,
    message:
        "{wildcards.dataset} {wildcards.category}: reads and checks the images"
    shell:
        "adtr index {params.options} --category {wildcards.category} --output {output} > {log} 2>&1"


rule features:
    input:
        representative,
    output:
        store="results/features/{dataset}/{key}/{part}.npy",
        info="results/features/{dataset}/{key}/{part}.json",
    log:
        "logs/features/{dataset}/{key}/{part}.log",
    conda:
        ENVIRONMENT
    threads: 2
    params:
        code=code_digest("features"),
        root=lambda wc: PLAN.datasets[wc.dataset].root,
        options=lambda wc: as_options(features_of_key(wc)),
    message:
        "{wildcards.dataset} {wildcards.part}: extracts features"
    shell:
        "adtr features --manifest {input} --part {wildcards.part} --root {params.root:q} {params.options}"
        " --threads {threads} --output {output.store} > {log} 2>&1"
