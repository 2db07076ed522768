# Features become trained runs, runs become scores. What an interrupted training resumes from lies below state/.

RUN = str(study.paths.results / "runs/{run}")
RUNS = r"[^/]+/({})/[^/]+/\d+"  # data set, experiment, category, seed


rule train:
    input:
        study.manifest,
        study.train_store,
        study.origin,
    output:
        [f"{RUN}/{name}" for name in TRAINED],
    log:
        f"logs/{study.name}/train/{{run}}.log",
    wildcard_constraints:
        run=RUNS.format(study.experiments(trained=True)),
    priority: 3  # the longest jobs begin first
    threads: study.train_threads
    resources:
        mem_mb=study.train_memory,
        runtime=study.train_minutes,
        gpu=study.cluster.gpus,
        gpu_slots=study.whole_gpu,
    params:
        decisive=study.train_decisive,
        study=lambda wc, output: study.options,
    shell:
        "adtr train {params.study} {wildcards.run:q} > {log:q} 2>&1"


use rule train as fit with:
    wildcard_constraints:
        run=RUNS.format(study.experiments(trained=False)),
    priority: 0
    threads: 1
    resources:
        mem_mb=study.train_memory,
        runtime=study.train_minutes,
        gpu=0,
        gpu_slots=study.quarter_gpu,


rule evaluate:
    input:
        study.manifest,
        study.stores,
        [f"{RUN}/{name}" for name in TRAINED if name != "history.csv"],
    output:
        [f"{RUN}/{name}" for name in EVALUATED],
    log:
        f"logs/{study.name}/evaluate/{{run}}.log",
    wildcard_constraints:
        run=RUNS.format("[^/]+"),
    resources:
        mem_mb=study.evaluate_memory,
        runtime=study.evaluate_minutes,
        gpu=study.gpus,
        gpu_slots=study.quarter_gpu,
    params:
        decisive=study.evaluate_decisive,
        study=lambda wc, output: study.options,
    shell:
        "adtr evaluate {params.study} {wildcards.run:q} > {log:q} 2>&1"
