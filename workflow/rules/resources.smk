# What a job asks of a cluster: time and memory from its parameters and images, more at each attempt.
# Elsewhere these numbers bind nobody. GPUs, partition and batch sizes are the profile's: profiles/slurm/config.yaml.

from adtr import cost
from adtr import mending
from adtr import presence
from adtr import slurm

BATCHES = workflow.group_settings.group_components
CLUSTER = cost.read_cluster(Path("params/cluster.yaml"))


def member(function):
    """The input function of a batch's members, which makes them go on where one fails.

    `keep-going` of a profile does not reach the Snakemake that runs a batch in its job; it is told here, where it looks
    for its members' inputs.
    """

    def of(wildcards):
        if workflow.remote_exec:
            workflow.execution_settings.keep_going = True
        return function(wildcards)

    return of


def images_of(wildcards):
    """How many images a run's category has for training and for testing."""
    return cost.images_of(
        PLAN.datasets[wildcards.dataset], Path(manifest_of(wildcards)), CLUSTER
    )


def images_of_part(wildcards):
    """How many images a feature store is made of."""
    dataset = DATA[wildcards.data]
    bank = dict(wildcards).get("bank")
    images = cost.images_of(dataset, Path(manifest_with(wildcards)), CLUSTER)
    if bank:
        return cost.bank_images(BANKS[bank], images.train)
    return cost.images_of_part(dataset, wildcards.part, images)


def minutes(seconds, attempt, group):
    """What a member of a batch asks for: more at each attempt, up to its share of the longest job."""
    share = CLUSTER.longest // BATCHES.get(group, 1)
    return min(attempt * CLUSTER.minutes(seconds), share)


def features_minutes(wildcards, attempt):
    features, images = features_of_key(wildcards), images_of_part(wildcards)
    return minutes(cost.extraction(features, images, CLUSTER), attempt, "data")


def features_memory(wildcards, attempt):
    return attempt * CLUSTER.memory


def fit_minutes(wildcards, attempt):
    params, images = params_of(wildcards), images_of(wildcards)
    return minutes(cost.fit(params, images, CLUSTER), attempt, "train")


def fit_memory(wildcards, attempt):
    params, images = params_of(wildcards), images_of(wildcards).train
    if params.method == "adtr_plus":
        images += cost.bank_images(params, images)
    return attempt * cost.memory(params.features, images, CLUSTER)


def evaluation_minutes(wildcards, attempt):
    params, images = params_of(wildcards), images_of(wildcards)
    return minutes(cost.evaluation(params, images, CLUSTER), attempt, "train")


def evaluation_memory(wildcards, attempt):
    params, images = params_of(wildcards), images_of(wildcards).test
    return attempt * cost.memory(params.features, images, CLUSTER)


def tell_leftovers():
    """Cancels the jobs of a Snakemake that was killed: their successors would write the same files."""
    here, prefix = Path.cwd(), "adtr"  # the profile's slurm-jobname-prefix
    with presence.alone(AT_WORK) as alone:
        if not alone and slurm.jobs_of(here, prefix):
            logger.warning(
                "Another Snakemake is at work in this folder: jobs that a killed one may have left are not looked for"
            )
        try:
            left = slurm.cancel_leftovers(here, prefix) if alone else []
        except UserError as error:
            raise WorkflowError(str(error))
    for job in left:
        logger.warning(
            f"Slurm job {job}: left behind by a Snakemake that was killed, now cancelled; what it trained goes on"
        )


mending.tell_why_batches_fail()
if workflow.remote_exec:
    mending.keep_marks()
if workflow.is_main_process:  # not the Snakemake inside a cluster's job
    AT_WORK = presence.enter(Path.cwd())
    with presence.alone(AT_WORK) as alone:
        if alone:
            presence.remove_stale_locks(Path.cwd())
        elif not DRY_RUN:
            logger.warning(
                "Another Snakemake is at work in this folder: if a LockException follows, wait for its end, or end it"
            )
