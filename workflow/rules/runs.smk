# Features become trained runs, runs become scores. What a killed training resumes from lies below state/.


rule train:
    input:
        manifest=member(manifest_of),
        features=lambda wc: stores_of(wc, parts=1),
        start=start_of,
        bank=bank_of,
    output:
        params=f"{RUN}/params.yaml",
        model=f"{RUN}/model.safetensors",
        history=f"{RUN}/history.csv",
        snapshots=f"{RUN}/snapshots.safetensors",
        run=f"{RUN}/run.json",
    log:
        f"logs/{STUDY}/train/{{dataset}}/{{experiment}}/{{category}}-{{seed}}.log",
    wildcard_constraints:
        experiment=experiments(trained=True),
    priority: 3  # the longest jobs begin first
    conda:
        ENVIRONMENT
    threads: train_threads
    resources:
        mem_mb=fit_memory,
        runtime=fit_minutes,
    params:
        code=lambda wc: code_digest("train.stage", f"methods.{params_of(wc).method}"),
        method=lambda wc: params_of(wc).method,
        options=method_options,
        origin=lambda wc, input: origin_options(input.start, input.bank),
        state=STATE,
        run=subpath(output.run, parent=True),
    message:
        "{wildcards.dataset} {wildcards.category}: trains {wildcards.experiment}, seed {wildcards.seed} (see {log})"
    shell:
        "adtr train --manifest {input.manifest} --features {input.features} --method {params.method}"
        " {params.options} {params.origin} --seed {wildcards.seed} --state {params.state} --output {params.run} > {log} 2>&1"


use rule train as fit with:
    wildcard_constraints:
        experiment=experiments(trained=False),
    priority: 0
    message:
        "{wildcards.dataset} {wildcards.category}: fits {wildcards.experiment}, seed {wildcards.seed}"


rule evaluate:
    input:
        manifest=member(manifest_of),
        features=stores_of,
        run=f"{RUN}/run.json",
        params=f"{RUN}/params.yaml",
        model=f"{RUN}/model.safetensors",
        snapshots=f"{RUN}/snapshots.safetensors",
    output:
        scores=f"{RUN}/scores.csv",
        maps=f"{RUN}/maps.npy",
        metrics=f"{RUN}/metrics.csv",
        curve=f"{RUN}/curve.csv",
        record=f"{RUN}/evaluation.json",
    log:
        f"logs/{STUDY}/evaluate/{{dataset}}/{{experiment}}/{{category}}-{{seed}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=evaluation_memory,
        runtime=evaluation_minutes,
    params:
        code=lambda wc: code_digest("evaluate.stage", f"methods.{params_of(wc).method}"),
        options=lambda wc: as_options(params_of(wc).score),
        root=lambda wc: PLAN.datasets[wc.dataset].root,
        run=subpath(input.run, parent=True),
        kept=f"{STATE}/evaluated",
        study=STUDY,
    message:
        "{wildcards.dataset} {wildcards.category}: evaluates {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "adtr evaluate --run {params.run} --manifest {input.manifest} --features {input.features}"
        " --root {params.root:q} {params.options} --label study={params.study} dataset={wildcards.dataset}"
        " experiment={wildcards.experiment} category={wildcards.category} seed={wildcards.seed}"
        " --kept {params.kept} --output {params.run} > {log} 2>&1"
