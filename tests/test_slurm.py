"""The study `smoke` on a real Slurm of two nodes: as planned, and when jobs are cancelled, cut off or orphaned."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cluster
import pytest
from workshop import Workshop, wait_for

pytestmark = pytest.mark.slurm

RUN = "smoke_mvtec/adtr/carpet/0"
OTHER = "smoke_mvtec/padim/carpet/0"
MODEL, OTHER_MODEL = (f"results/smoke/runs/{run}/model.safetensors" for run in (RUN, OTHER))
LONG = "train.epochs=2000 train.save_minutes=0.01 train.snapshots=0"  # for tests that disturb a training
QUICK = ("--slurm-init-seconds-before-status-checks", "1")


@pytest.fixture(scope="session")
def submitted(slurm: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:  # noqa: ARG001
    """The study, made by the command that the README tells."""
    shop = Workshop(tmp_path_factory.mktemp("login"))
    result = shop.snakemake("--profile", "slurm", "all_tables")
    assert result.returncode == 0, result.stdout
    return shop


@pytest.fixture(scope="session")
def prepared(slurm: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:  # noqa: ARG001
    """The data and the features of the runs that are disturbed."""
    shop = Workshop(tmp_path_factory.mktemp("prepared"))
    result = shop.snakemake(MODEL, OTHER_MODEL, "--until", "features")
    assert result.returncode == 0, result.stdout
    return shop


@pytest.fixture
def shop(prepared: Workshop, tmp_path: Path) -> Iterator[Workshop]:
    """Where a training may be disturbed; ends every Snakemake that was begun there, and their jobs."""
    shop = prepared.sibling(tmp_path / "login")
    yield shop
    shop.end()
    cluster.empty_queue()


@pytest.fixture(scope="session")
def undisturbed(prepared: Workshop, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the long training, made on this machine without Slurm."""
    shop = prepared.sibling(tmp_path_factory.mktemp("here"))
    result = shop.snakemake(MODEL, setting=LONG)
    assert result.returncode == 0, result.stdout
    return (shop.folder / MODEL).read_bytes()


def fact(job: str, kind: str) -> str:
    """What squeue says of a job: its state (%T), its node (%N)."""
    words = ["squeue", "--noheader", f"--format={kind}", f"--job={job}"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def occupy(seconds: int) -> None:
    """Takes every GPU for so long, with jobs that go before ours."""
    words = ["sbatch", "--partition=urgent", f"--gpus={cluster.GPUS}", "--nodes=1", "--output=/dev/null"]
    for _ in range(cluster.NODES):
        subprocess.run([*words, f"--wrap=sleep {seconds}"], check=True, capture_output=True)


def training_log(shop: Workshop) -> str:
    """Of the long training's last attempt."""
    return (shop.folder / "logs/smoke/train/smoke_mvtec/adtr/carpet/0.log").read_text()


def submit(shop: Workshop, *words: str, setting: str = LONG) -> subprocess.Popen[str]:
    """Snakemake, submitting a training."""
    return shop.begun("--profile", "slurm", MODEL, *QUICK, *words, log=shop.folder / "main.log", setting=setting)


def begun(shop: Workshop) -> subprocess.Popen[str]:
    """Snakemake, submitting the long training, once that has saved a state."""
    started = submit(shop)
    wait_for(lambda: list((shop.folder / f"state/smoke/{RUN}").glob("*/state.pt")), "a saved state")
    return started


def ended(process: subprocess.Popen[str], shop: Workshop) -> str:
    """What Snakemake said, once it has ended well."""
    code = process.wait(timeout=300)
    said = (shop.folder / "main.log").read_text()
    assert code == 0, said
    return said


def assert_resumed(shop: Workshop, undisturbed: bytes) -> None:
    assert "resumes after epoch" in training_log(shop)
    assert (shop.folder / MODEL).read_bytes() == undisturbed


# As planned


def test_every_job_completed_in_slurms_own_records(submitted: Workshop, slurm: Path) -> None:
    ours = [job for job in cluster.ended(slurm) if job["WorkDir"] == str(submitted.folder)]
    assert len(ours) > 50
    assert {job["JobState"] for job in ours} == {"COMPLETED"}


def test_networks_have_a_gpu_and_baselines_have_none(submitted: Workshop) -> None:
    logs = list((submitted.folder / "logs/smoke/train").rglob("*.log"))
    assert len(logs) == 20
    for log in logs:
        gpu = "[01]" if log.parts[-3] not in ("padim", "patchcore", "spade", "kde") else r"(\?|)"
        text = log.read_text()
        assert re.search(rf"^Slurm job \d+ on n[12], CUDA_VISIBLE_DEVICES={gpu}$", text, re.MULTILINE), log


def test_a_second_run_does_nothing(submitted: Workshop) -> None:
    result = submitted.snakemake("--profile", "slurm", "all_tables")
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout


def test_the_tables_are_those_made_without_slurm(submitted: Workshop, done: Workshop) -> None:
    tables = [path.relative_to(done.folder) for path in (done.folder / "results/smoke/tables").iterdir()]
    assert len(tables) > 15
    for table in [*tables, Path("results/smoke/metrics.csv")]:
        assert (submitted.folder / table).read_bytes() == (done.folder / table).read_bytes(), table


# Disturbed


def test_a_cancelled_training_resumes_in_a_new_job(shop: Workshop, undisturbed: bytes) -> None:
    process = begun(shop)
    (job, comment), *_ = cluster.queue().items()
    assert comment == f"rule_train_wildcards_{RUN.replace('/', '_')}"
    subprocess.run(["scancel", job], check=True)
    ended(process, shop)
    assert_resumed(shop, undisturbed)


def test_an_interrupt_empties_the_queue(shop: Workshop) -> None:
    process = begun(shop)
    assert cluster.queue()
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 1
    wait_for(lambda: not cluster.queue(), "an empty queue", 30)


def killed(process: subprocess.Popen[str], shop: Workshop, sign: signal.Signals = signal.SIGKILL) -> str:
    """The job that a Snakemake leaves behind, once its locks are removed as docs/slurm.md says."""
    (orphan,) = cluster.queue()
    os.killpg(process.pid, sign)
    process.wait()
    assert list(cluster.queue()) == [orphan]
    assert "LockException" in shop.snakemake("--profile", "slurm", MODEL, setting=LONG).stdout
    assert shop.snakemake("--unlock").returncode == 0
    return orphan


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGHUP], ids=["killed", "login session lost"])
def test_a_job_left_behind_is_waited_for_and_its_training_is_not_repeated(
    sign: signal.Signals, shop: Workshop, undisturbed: bytes
) -> None:
    orphan = killed(begun(shop), shop, sign)
    ended(submit(shop), shop)
    text = training_log(shop)
    assert f"Slurm job {orphan}" in text  # whom it waited for
    assert f"scancel {orphan}" in text
    assert "epoch 2000/2000" not in text  # it was trained by the other
    assert (shop.folder / MODEL).read_bytes() == undisturbed


def test_jobs_left_behind_can_be_cancelled_by_the_name_of_their_session(shop: Workshop, undisturbed: bytes) -> None:
    orphan = killed(begun(shop), shop)
    subprocess.run(["scancel", "--name", fact(orphan, "%j")], check=True)
    wait_for(lambda: not cluster.queue(), "an empty queue", 30)
    ended(submit(shop), shop)
    assert_resumed(shop, undisturbed)


def test_what_ends_well_after_snakemake_was_killed_is_not_taken_for_other_parameters(
    shop: Workshop, undisturbed: bytes
) -> None:
    killed(begun(shop), shop)
    wait_for(lambda: not cluster.queue(), "the end of the orphan")
    assert (shop.folder / MODEL).read_bytes() == undisturbed
    metrics = f"results/smoke/runs/{RUN}/metrics.csv"
    other = shop.snakemake("--profile", "slurm", metrics, *QUICK, "--retries", "0", setting=LONG + " train.lr=0.001")
    if other.returncode:
        assert "trained with other parameters than the study's" in other.stdout
    else:  # Snakemake trained again by itself
        assert (shop.folder / MODEL).read_bytes() != undisturbed


def test_a_job_that_fails_is_told_with_its_last_message(shop: Workshop) -> None:
    in_the_way = shop.folder / f"state/smoke/{RUN}"  # a file where a folder should be
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    result = shop.snakemake("--profile", "slurm", MODEL, OTHER_MODEL, *QUICK, "--retries", "0")
    assert result.returncode != 0
    assert result.stdout.count("adtr train: ") == 1
    assert f"logs/smoke/train/{RUN}.log" in result.stdout
    assert (shop.folder / OTHER_MODEL).is_file()  # the other one goes on


def test_what_slurm_refuses_is_shown(shop: Workshop) -> None:
    resources = ("--default-resources", "slurm_partition=nope", "--retries", "0")
    quiet, verbose = (
        shop.snakemake("--profile", "slurm", MODEL, *resources, *words, setting=LONG)
        for words in ([], ["--quiet", "reason"])
    )
    assert quiet.returncode != 0
    assert "the same command with `--quiet reason`" in quiet.stdout
    assert "invalid partition specified: nope" in verbose.stdout


# Slurm's clocks


@pytest.mark.slow
def test_a_training_out_of_time_goes_on_in_a_longer_job(shop: Workshop, slurm: Path) -> None:
    words = ("--set-resources", "train:runtime=attempt", "train:mem_mb=2000")
    said = ended(submit(shop, *words, setting=LONG.replace("2000", "12000")), shop)
    states = [job["JobState"] for job in cluster.ended(slurm) if job["WorkDir"] == str(shop.folder)]
    assert (states[0], states[-1]) == ("TIMEOUT", "COMPLETED")
    assert "resumes after epoch" in said + training_log(shop)


@pytest.mark.slow
def test_a_training_out_of_memory_is_given_more(shop: Workshop, slurm: Path) -> None:
    words = ("--set-resources", "train:mem_mb=200 * attempt**2", "train:runtime=10")
    said = ended(submit(shop, *words, setting=""), shop)
    assert "Trying to restart job" in said
    states = [job["JobState"] for job in cluster.ended(slurm) if job["WorkDir"] == str(shop.folder)]
    assert states[0] != "COMPLETED"
    assert states[-1] == "COMPLETED"
    assert (shop.folder / MODEL).is_file()


@pytest.mark.slow
def test_a_preempted_training_goes_on(shop: Workshop, undisturbed: bytes) -> None:
    process = begun(shop)
    (job,) = cluster.queue()
    occupy(seconds=5)
    wait_for(lambda: fact(job, "%T") == "PENDING", "the job's preemption")
    ended(process, shop)
    assert_resumed(shop, undisturbed)


@pytest.mark.slow
def test_what_runs_on_on_a_lost_node_and_its_successor_write_once(
    shop: Workshop, slurm: Path, undisturbed: bytes
) -> None:
    process = begun(shop)
    (job,) = cluster.queue()
    name = fact(job, "%N")
    daemon = cluster.running(slurm / f"slurmd-{name}.pid")
    assert daemon
    os.kill(daemon, signal.SIGKILL)  # the training itself goes on, as behind a broken network
    try:
        wait_for(lambda: fact(job, "%T") != "RUNNING", "the node's loss", 60)
        ended(process, shop)
    finally:
        cluster.start_node(int(name.removeprefix("n")))
    assert (shop.folder / MODEL).read_bytes() == undisturbed


@pytest.mark.slow
def test_a_full_queue_is_waited_for(shop: Workshop) -> None:
    occupy(seconds=40)
    ended(submit(shop, setting=""), shop)
    assert (shop.folder / MODEL).is_file()
