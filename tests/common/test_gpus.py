"""GPUs: which ones a job sees, and that each has one job. A stand-in prints what nvidia-smi prints."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.common.gpus import LOCK_FOLDER, SHARE_GPUS, lock_folder, memory_mb, users, visible_gpus
from tests.conftest import environment
from tests.gpu_jobs import job_environment, tell

A, B = "GPU-aaaaaaaa-0000-1111-2222-333333333333", "GPU-bbbbbbbb-0000-1111-2222-333333333333"
SLICES = ["MIG-11111111-aaaa-bbbb-cccc-dddddddddddd", "MIG-22222222-aaaa-bbbb-cccc-dddddddddddd"]
TWO = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\nGPU 1: NVIDIA A100-SXM4-40GB (UUID: {B})\n"
ONE = TWO.splitlines()[0] + "\n"
SLICED = TWO + "".join(f"  MIG 3g.20gb     Device  {i}: (UUID: {uuid})\n" for i, uuid in enumerate(SLICES))
# Takes a GPU, says which, and holds it until its input closes; with a line of input it lets the next job have it.
HOLDER = """
import os, sys
from gpt2_ablations.common.gpus import release_gpu, take_gpu
def start_up():
    print("starts CUDA on", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
gpu = take_gpu(say=lambda text: print(text, flush=True), pause=0.05, start_up=start_up)
print("took", gpu and gpu.index, os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
if sys.stdin.readline():
    release_gpu()
    print("let go", flush=True)
sys.stdin.read()
"""


class Machine:
    """A pretended machine: its nvidia-smi, and processes that take its GPUs."""

    def __init__(self, folder: Path):
        self.folder, self.processes = folder, []
        (folder / "bin").mkdir()
        (folder / "list").touch()
        (folder / "users").touch()
        self.has_memory("0, 24576", "1, 24576")
        program = folder / "bin" / "nvidia-smi"
        program.write_text(
            f"#!/bin/sh\ncase \"$1\" in -L) cat '{folder}/list';; --query-compute-apps=*) cat '{folder}/users';;"
            f" --query-gpu=index,memory.total) cat '{folder}/memory';;"
            " *) exit 2;; esac\n"
        )
        program.chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return job_environment(self.folder / "locks") | {"PATH": path} | more

    def shows(self, listed: str) -> None:
        (self.folder / "list").write_text(listed)

    def has_memory(self, *lines: str) -> None:
        """Lines of a GPU's number and its MiB."""
        (self.folder / "memory").write_text("".join(f"{line}\n" for line in lines))

    def used(self, *lines: str) -> None:
        # Renamed into place: a process may be reading it.
        (self.folder / "new").write_text("".join(f"{line}\n" for line in lines))
        (self.folder / "new").rename(self.folder / "users")

    def job(self, program: str = HOLDER, **more: str) -> subprocess.Popen:
        """A process that takes a GPU and holds it."""
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=self.environment(**more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def holder(self, program: str = HOLDER) -> subprocess.Popen:
        """A job that has taken the machine's one GPU."""
        self.shows(ONE)
        process = self.job(program)
        assert said(process) == f"took 0 {A}"
        return process

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    made = Machine(tmp_path)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv(SHARE_GPUS, raising=False)
    yield made
    made.stop()


def said(process: subprocess.Popen) -> str:
    """Its next line; a test that waits for one in vain is stopped from outside."""
    return process.stdout.readline().strip()


def test_a_machine_without_nvidia_smi_or_driver_has_no_gpus(machine, monkeypatch):
    assert visible_gpus() == []
    program = machine.folder / "bin" / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the driver.'; exit 9\n"
    )
    assert visible_gpus() == []
    program.unlink()
    monkeypatch.setenv("PATH", str(machine.folder / "bin"))
    assert visible_gpus() == []


@pytest.mark.parametrize(
    "listed, chosen, uuids",
    [
        (TWO, None, [A, B]),
        (TWO, "1", [B]),
        (TWO, "1,0", [B, A]),
        (TWO, B, [B]),
        (TWO, "GPU-aaaa", [A]),
        (TWO, "GPU-", []),
        (TWO, "", []),
        (TWO, "-1", []),
        (TWO, "0,7,1", [A]),
        (TWO, "0,0", [A]),
        (SLICED, None, [A, *SLICES]),
        (SLICED, SLICES[1], [SLICES[1]]),
        (SLICED, "1", [SLICES[0]]),
        (SLICED, "0", [A]),
    ],
)
def test_cuda_visible_devices_names_gpus_by_number_uuid_or_slice(machine, monkeypatch, listed, chosen, uuids):
    machine.shows(listed)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert [gpu.uuid for gpu in visible_gpus()] == uuids


@pytest.mark.parametrize(
    "listed, chosen, memory",
    [
        (TWO, None, [40960, 81920]),
        (TWO, "1", [81920]),
        (TWO, "", []),
        # 3g.20gb: 20 GB are 19,073 MiB.
        (SLICED, None, [40960, 19073, 19073]),
        (SLICED, SLICES[1], [19073]),
    ],
)
def test_memory_is_that_of_the_gpus_and_slices_a_job_may_take(machine, monkeypatch, listed, chosen, memory):
    machine.shows(listed)
    machine.has_memory("0, 40960", "1, 81920")
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert memory_mb() == memory


def test_a_gpu_that_does_not_say_its_memory_is_left_out(machine):
    machine.shows(TWO)
    machine.has_memory("0, [N/A]", "1, 81920")
    assert memory_mb() == [81920]


def test_who_computes_on_a_gpu_is_read_from_nvidia_smi(machine):
    machine.used(f"{A}, 4711, python", f"{B}, 4712, [Not Found]")
    assert users() == {A: ["python (process 4711)"], B: ["[Not Found] (process 4712)"]}


def test_two_jobs_take_two_gpus_and_a_third_waits_for_the_first_to_end(machine):
    machine.shows(TWO)
    first, second = machine.job(), machine.job()
    took = {said(first), said(second)}
    assert took == {f"took 0 {A}", f"took 1 {B}"}
    third = machine.job()
    assert said(third) == "waiting for a GPU: GPU 0 is held by another job; GPU 1 is held by another job"
    first.stdin.close()
    first.wait()
    assert said(third) in took


def test_a_killed_job_s_gpu_is_free_at_once(machine):
    first = machine.holder()
    second = machine.job()
    assert said(second).startswith("waiting")
    first.send_signal(signal.SIGKILL)
    assert said(second) == f"took 0 {A}"


def test_many_jobs_never_share_a_gpu(machine):
    machine.shows(TWO)
    diary = machine.folder / "diary"
    program = HOLDER.replace(
        "sys.stdin.read()",
        f"""
import time
def note(word):
    with open({str(diary)!r}, "a") as file:
        file.write(f"{{word}} {{gpu.index}}\\n")
note("begin"); time.sleep(0.2); note("end")
""",
    )
    command = [sys.executable, "-c", program]
    jobs = [subprocess.Popen(command, env=machine.environment(), stdin=subprocess.DEVNULL) for _ in range(6)]
    assert [job.wait(timeout=120) for job in jobs] == [0] * 6
    lines = diary.read_text().split("\n")[:-1]
    for gpu in "01":
        of_gpu = [line.split()[0] for line in lines if line.endswith(gpu)]
        assert of_gpu and of_gpu == ["begin", "end"] * (len(of_gpu) // 2)
    assert len(lines) == 12


def test_the_next_job_starts_cuda_while_it_waits_and_gets_the_gpu_before_the_first_one_ends(machine):
    machine.has_memory("0, 81559")
    first = machine.holder()
    second = machine.job()
    assert said(second) == "waiting for a GPU: GPU 0 is held by another job"
    assert said(second) == f"starts CUDA on {A}"
    # Both are seen on the GPU now, and neither keeps the other from it.
    machine.used(f"{A}, {first.pid}, python", f"{A}, {second.pid}, python")
    tell(first)
    assert said(first) == "let go"
    assert said(second) == f"took 0 {A}"
    assert first.poll() is None


@pytest.mark.parametrize("listed, memory", [(ONE, ["0, 24576"]), (TWO, ["0, 81559", "1, 81559"])])
def test_cuda_is_not_started_early_on_a_gpu_without_room_or_where_there_are_several(machine, listed, memory):
    machine.shows(listed)
    machine.has_memory(*memory)
    holders = [machine.job() for _ in listed.splitlines()]
    taken = sorted(said(holder) for holder in holders)
    waiting = machine.job()
    assert said(waiting).startswith("waiting for a GPU: ")
    holders[0].kill()
    assert said(waiting) in taken


def test_a_gpu_without_room_stays_a_job_s_until_it_ends(machine):
    first = machine.holder()
    second = machine.job()
    assert said(second).startswith("waiting")
    tell(first)
    assert said(first) == "let go"
    with pytest.raises(Timeout):
        FileLock(machine.folder / "locks" / f"{A}.lock").acquire(timeout=0.2)
    first.stdin.close()
    first.wait()
    assert said(second) == f"took 0 {A}"


def test_a_job_that_is_still_writing_keeps_no_newcomer_from_the_gpu(machine):
    machine.has_memory("0, 81559")
    first = machine.holder()
    machine.used(f"{A}, {first.pid}, python")
    tell(first)
    assert said(first) == "let go"
    assert said(machine.job()) == f"took 0 {A}"


def test_another_program_of_this_user_is_someone_else(machine):
    machine.shows(ONE)
    other = subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    machine.processes.append(other)
    machine.used(f"{A}, {other.pid}, sleep")
    assert said(machine.job()).startswith(f"waiting for a GPU: GPU 0 is used by sleep (process {other.pid})")


def test_a_process_takes_its_gpu_again_though_it_is_seen_there(machine):
    machine.has_memory("0, 81559")
    program = HOLDER.replace("sys.stdin.read()", "print(take_gpu(say=print).index, flush=True)")
    job = machine.holder(program)
    machine.used(f"{A}, {job.pid}, python")
    tell(job)
    assert [said(job), said(job)] == ["let go", "0"]


def test_a_gpu_on_which_others_compute_is_passed_over(machine):
    machine.shows(TWO)
    machine.used(f"{A}, 4711, python")
    assert said(machine.job()) == f"took 1 {B}"


def test_a_job_waits_for_others_to_leave_and_says_who_and_what_to_do(machine):
    machine.shows(ONE)
    machine.used(f"{A}, 4711, /usr/bin/python")
    job = machine.job()
    assert said(job) == (
        f"waiting for a GPU: GPU 0 is used by /usr/bin/python (process 4711); {SHARE_GPUS}=1 shares it"
    )
    machine.used()
    assert said(job) == f"took 0 {A}"


@pytest.mark.parametrize("told", [{SHARE_GPUS: "1"}, {"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": A}])
def test_a_gpu_of_others_is_taken_when_told(machine, told):
    machine.shows(TWO)
    machine.used(f"{A}, 4711, python", f"{B}, 4712, python")
    assert said(machine.job(**told)) == f"took 0 {A}"


def test_a_named_gpu_still_has_one_job_of_this_program(machine):
    machine.shows(TWO)
    assert said(machine.job(CUDA_VISIBLE_DEVICES="1")) == f"took 1 {B}"
    assert said(machine.job(CUDA_VISIBLE_DEVICES="1")) == "waiting for a GPU: GPU 1 is held by another job"


def test_a_slice_is_taken_by_its_own_name(machine):
    machine.shows(SLICED)
    assert said(machine.job(CUDA_VISIBLE_DEVICES=SLICES[1])) == f"took 1 {SLICES[1]}"


def test_without_a_gpu_nothing_is_taken(machine):
    assert said(machine.job()) == "took None None"


def test_a_lock_folder_that_cannot_be_made_is_a_mistake_in_one_line(machine, monkeypatch):
    (machine.folder / "file").touch()
    monkeypatch.setenv(LOCK_FOLDER, str(machine.folder / "file"))
    with pytest.raises(InputError, match=f"{LOCK_FOLDER} names a folder"):
        lock_folder()


def test_a_job_on_the_processor_computes_with_the_threads_it_is_given():
    program = "from gpt2_ablations.common.torch_setup import set_up_torch; import torch; set_up_torch('float32');"
    program += "print(torch.get_num_threads())"
    for threads in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment() | {"OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == threads
