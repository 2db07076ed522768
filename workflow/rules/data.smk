# Images become manifests, manifests become features.


def generated(wildcards):
    made = PLAN.datasets[wildcards.dataset].generated
    return f"data/generated/{wildcards.dataset}/.done" if made else []


def index_params(wildcards):
    dataset = PLAN.datasets[wildcards.dataset]
    wanted = dataset.model_dump(include={"layout", "root", "seed", "train_share"})
    return " ".join(
        f"--{key.replace('_', '-')} {value}" for key, value in wanted.items()
    )


def representative(wildcards):
    """The manifest of a category that draws from the part; CIFAR-10's test images are the same in all."""
    dataset = PLAN.datasets[wildcards.dataset]
    category = next(
        c for c in dataset.categories if wildcards.part in parts_of(dataset.layout, c)
    )
    return f"results/manifests/{wildcards.dataset}/{category}.csv"


def features_of_key(wildcards):
    return next(
        p.features
        for p in PLAN.params.values()
        if feature_key(p.features) == wildcards.key
    )


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
        "adtr generate --layout {params.layout} --root {params.root} --categories {params.categories}"
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
        "results/features/{dataset}/{key}/{part}.npy",
        "results/features/{dataset}/{key}/{part}.json",
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
        "adtr features --manifest {input} --part {wildcards.part} --root {params.root} {params.options}"
        " --threads {threads} --output {output[0]} > {log} 2>&1"
