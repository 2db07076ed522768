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
MEMBERS = [RUN, "smoke_mvtec/no_query/carpet/0", "smoke_mvtec/padim/carpet/0"]  # of a batch
MODELS = [f"results/smoke/runs/{member}/model.safetensors" for member in MEMBERS]
MODEL = MODELS[0]
LONG = "train.epochs=3000 train.save_every=20 train.snapshots=0"  # for tests that disturb a training
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
    result = shop.snakemake(*MODELS, "--until", "features")
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
    return (shop.folder / "logs/smoke/train/smoke_mvtec/adtr/carpet-0.log").read_text()


def begun(shop: Workshop, *words: str) -> subprocess.Popen[str]:
    """Snakemake, submitting the long training, once that has saved a state."""
    started = shop.begun("--profile", "slurm", MODEL, *QUICK, *words, log=shop.folder / "main.log", setting=LONG)
    wait_for((shop.folder / f"state/smoke/{RUN}/state.pt").is_file, "a saved state")
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
    assert {job["JobState"] for job in ours} == {"COMPLETED"}
    assert len(ours) < 15  # batches: a job for each member would be 140


def test_every_training_was_given_a_gpu(submitted: Workshop) -> None:
    logs = list((submitted.folder / "logs/smoke/train").rglob("*.log"))
    assert len(logs) == 60
    for log in logs:
        assert re.search(r"^Slurm job \d+ on n[12], CUDA_VISIBLE_DEVICES=[01]$", log.read_text(), re.MULTILINE), log


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


def test_a_cancelled_training_goes_on_in_a_new_job(shop: Workshop, undisturbed: bytes) -> None:
    process = begun(shop)
    (job, comment), *_ = cluster.queue().items()
    assert comment == f"train results/smoke/runs/{RUN}"
    subprocess.run(["scancel", job], check=True)
    ended(process, shop)
    assert_resumed(shop, undisturbed)


def test_an_interrupt_empties_the_queue(shop: Workshop) -> None:
    process = begun(shop)
    assert cluster.queue()
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 1
    wait_for(lambda: not cluster.queue(), "an empty queue", 30)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGHUP], ids=["killed", "login session lost"])
def test_a_snakemake_that_is_gone_leaves_no_second_writer(
    sign: signal.Signals, shop: Workshop, undisturbed: bytes
) -> None:
    process = begun(shop)
    (orphan,) = cluster.queue()
    os.killpg(process.pid, sign)
    process.wait()
    assert list(cluster.queue()) == [orphan]
    again = shop.begun("--profile", "slurm", MODEL, *QUICK, log=shop.folder / "main.log", setting=LONG)
    said = ended(again, shop)
    assert f"Slurm job {orphan} train results/smoke/runs/{RUN}: left behind" in said
    assert_resumed(shop, undisturbed)


def test_a_failed_member_loses_nothing_of_its_batch(shop: Workshop) -> None:
    in_the_way = shop.folder / f"state/smoke/{MEMBERS[1]}"  # a file where a folder should be
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    targets = [f"results/smoke/runs/{member}/metrics.csv" for member in MEMBERS]
    log = shop.folder / "main.log"
    process = shop.begun("--profile", "slurm", *targets, *QUICK, log=log)
    wait_for(lambda: "Trying to restart job" in log.read_text(), "a second attempt")
    in_the_way.unlink()
    ended(process, shop)
    assert all((shop.folder / target).is_file() for target in targets)
    for member in (MEMBERS[0], MEMBERS[2]):
        _, experiment, category, seed = member.split("/")
        for stage in ("train", "evaluate"):
            text = (shop.folder / f"logs/smoke/{stage}/smoke_mvtec/{experiment}/{category}-{seed}.log").read_text()
            assert "finished before" in text


def test_two_snakemakes_in_one_folder_leave_each_others_jobs(shop: Workshop, slurm: Path) -> None:
    process = begun(shop)
    other = shop.snakemake("--profile", "slurm", MODELS[2], *QUICK)
    assert other.returncode == 0, other.stdout
    assert "Another Snakemake is at work in this folder" in other.stdout
    ended(process, shop)
    jobs = [job for job in cluster.ended(slurm) if job["WorkDir"] == str(shop.folder)]
    assert [job["JobState"] for job in jobs] == ["COMPLETED", "COMPLETED"]


def test_what_ends_well_after_snakemake_was_killed_is_not_taken_for_known(shop: Workshop, undisturbed: bytes) -> None:
    process = begun(shop)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not cluster.queue(), "the end of the orphan")
    assert (shop.folder / MODEL).read_bytes() == undisturbed
    result = shop.snakemake("--profile", "slurm", MODEL, *QUICK, setting=LONG)
    assert "1 of 1 steps (100%) done" in result.stdout, result.stdout
    assert "finished before" in training_log(shop)
    assert "Nothing to be done" in shop.snakemake("--profile", "slurm", MODEL, setting=LONG).stdout


def test_what_slurm_refuses_is_told(shop: Workshop) -> None:
    resources = ("--default-resources", "slurm_partition=nope", "member=1", "--retries", "0")
    result = shop.snakemake("--profile", "slurm", MODEL, *resources, setting=LONG)
    assert result.returncode != 0
    assert "invalid partition specified: nope" in result.stdout
    assert "    smoke_mvtec carpet: trains adtr, seed 0 (see logs/" in result.stdout


# Slurm's clocks


@pytest.mark.slow
def test_a_training_out_of_time_goes_on_in_a_longer_job(shop: Workshop, slurm: Path) -> None:
    words = ("--set-resources", "train:runtime=attempt", "train:gpu=1", "train:mem_mb=2000", "train:member=1")
    log = shop.folder / "main.log"
    process = shop.begun("--profile", "slurm", MODEL, *QUICK, *words, log=log, setting=LONG.replace("3000", "12000"))
    said = ended(process, shop)
    states = [job["JobState"] for job in cluster.ended(slurm) if job["WorkDir"] == str(shop.folder)]
    assert (states[0], states[-1]) == ("TIMEOUT", "COMPLETED")
    assert "resumes after epoch" in said + training_log(shop)


@pytest.mark.slow
def test_a_training_out_of_memory_is_given_more(shop: Workshop, slurm: Path) -> None:
    words = ("--set-resources", "train:mem_mb=200 * attempt**2", "train:gpu=1", "train:runtime=10")
    said = ended(shop.begun("--profile", "slurm", MODEL, *QUICK, *words, log=shop.folder / "main.log"), shop)
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
    ended(shop.begun("--profile", "slurm", MODEL, *QUICK, log=shop.folder / "main.log"), shop)
    assert (shop.folder / MODEL).is_file()
