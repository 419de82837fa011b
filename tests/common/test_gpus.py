"""Which GPUs a job sees, and that each GPU has one job. A script stands in for nvidia-smi."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.common.gpus import (
    FORMER_SHARE_GPUS_VARIABLE,
    LOCK_FOLDER_VARIABLE,
    SHARE_GPUS_VARIABLE,
    check_environment,
    gpu_memory_mb,
    lock_folder,
    other_processes,
    visible_gpus,
)
from tests.conftest import environment
from tests.gpu_jobs import job_environment, send_line

A, B = "GPU-aaaaaaaa-0000-1111-2222-333333333333", "GPU-bbbbbbbb-0000-1111-2222-333333333333"
SLICES = ["MIG-11111111-aaaa-bbbb-cccc-dddddddddddd", "MIG-22222222-aaaa-bbbb-cccc-dddddddddddd"]
TWO = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\nGPU 1: NVIDIA A100-SXM4-40GB (UUID: {B})\n"
ONE = TWO.splitlines()[0] + "\n"
SLICED = TWO + "".join(f"  MIG 3g.20gb     Device  {i}: (UUID: {uuid})\n" for i, uuid in enumerate(SLICES))
# Takes a GPU, prints which one, and holds it until its input is closed. After a line of input it releases the GPU.
HOLDER = """
import os, sys
from gpt2_ablations.common.gpus import release_gpu, take_gpu
def start_cuda():
    print("starts CUDA on", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
gpu = take_gpu(say=lambda text: print(text, flush=True), pause=0.05, start_cuda=start_cuda)
print("took", gpu and gpu.index, os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
if sys.stdin.readline():
    release_gpu()
    print("released", flush=True)
sys.stdin.read()
"""


class Machine:
    """A machine with an imitated nvidia-smi, and jobs that take its GPUs."""

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

    def has_gpus(self, listing: str) -> None:
        """Set the output of `nvidia-smi -L`."""
        (self.folder / "list").write_text(listing)

    def has_memory(self, *lines: str) -> None:
        """Set the memory of the GPUs: lines with a GPU's number and its MiB."""
        (self.folder / "memory").write_text("".join(f"{line}\n" for line in lines))

    def has_processes(self, *lines: str) -> None:
        """Set the processes that compute on GPUs: lines with a GPU's UUID, the process id and the program."""
        # By renaming, because a job may be reading the file.
        (self.folder / "new").write_text("".join(f"{line}\n" for line in lines))
        (self.folder / "new").rename(self.folder / "users")

    def job(self, program: str = HOLDER, **more: str) -> subprocess.Popen:
        """Start a process that takes a GPU and holds it."""
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
        """Start a job, and wait until it has taken the machine's only GPU."""
        self.has_gpus(ONE)
        process = self.job(program)
        assert next_line(process) == f"took 0 {A}"
        return process

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    machine = Machine(tmp_path)
    for name, value in machine.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv(SHARE_GPUS_VARIABLE, raising=False)
    yield machine
    machine.stop()


def next_line(process: subprocess.Popen) -> str:
    """The next line that a job prints."""
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
    "listing, chosen, uuids",
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
def test_cuda_visible_devices_names_gpus_by_number_uuid_or_slice(machine, monkeypatch, listing, chosen, uuids):
    machine.has_gpus(listing)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert [gpu.uuid for gpu in visible_gpus()] == uuids


@pytest.mark.parametrize(
    "listing, chosen, memory",
    [
        (TWO, None, [40960, 81920]),
        (TWO, "1", [81920]),
        (TWO, "", []),
        # 3g.20gb: 20 GB are 19,073 MiB.
        (SLICED, None, [40960, 19073, 19073]),
        (SLICED, SLICES[1], [19073]),
    ],
)
def test_gpu_memory_is_that_of_the_gpus_and_slices_that_a_job_may_take(machine, monkeypatch, listing, chosen, memory):
    machine.has_gpus(listing)
    machine.has_memory("0, 40960", "1, 81920")
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert gpu_memory_mb() == memory


def test_a_gpu_whose_memory_is_unknown_is_left_out(machine):
    machine.has_gpus(TWO)
    machine.has_memory("0, [N/A]", "1, 81920")
    assert gpu_memory_mb() == [81920]


def test_other_processes_are_read_from_nvidia_smi(machine):
    machine.has_processes(f"{A}, 4711, python", f"{B}, 4712, [Not Found]")
    assert other_processes() == {A: ["python (process 4711)"], B: ["[Not Found] (process 4712)"]}


def test_two_jobs_take_two_gpus_and_a_third_waits_for_the_first_to_end(machine):
    machine.has_gpus(TWO)
    first, second = machine.job(), machine.job()
    took = {next_line(first), next_line(second)}
    assert took == {f"took 0 {A}", f"took 1 {B}"}
    third = machine.job()
    assert next_line(third) == "waiting for a GPU: GPU 0 is held by another job; GPU 1 is held by another job"
    first.stdin.close()
    first.wait()
    assert next_line(third) in took


def test_a_killed_job_s_gpu_is_free_at_once(machine):
    first = machine.holder()
    second = machine.job()
    assert next_line(second).startswith("waiting")
    first.send_signal(signal.SIGKILL)
    assert next_line(second) == f"took 0 {A}"


def test_many_jobs_never_share_a_gpu(machine):
    machine.has_gpus(TWO)
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


def test_the_next_job_starts_cuda_while_it_waits_and_takes_the_gpu_before_the_first_job_ends(machine):
    machine.has_memory("0, 81559")
    first = machine.holder()
    second = machine.job()
    assert next_line(second) == "waiting for a GPU: GPU 0 is held by another job"
    assert next_line(second) == f"starts CUDA on {A}"
    # nvidia-smi lists both jobs now, and neither keeps the other from the GPU.
    machine.has_processes(f"{A}, {first.pid}, python", f"{A}, {second.pid}, python")
    send_line(first)
    assert next_line(first) == "released"
    assert next_line(second) == f"took 0 {A}"
    assert first.poll() is None


@pytest.mark.parametrize("listing, memory", [(ONE, ["0, 24576"]), (TWO, ["0, 81559", "1, 81559"])])
def test_cuda_is_not_started_early_on_a_small_gpu_or_with_several_gpus(machine, listing, memory):
    machine.has_gpus(listing)
    machine.has_memory(*memory)
    holders = [machine.job() for _ in listing.splitlines()]
    taken = sorted(next_line(holder) for holder in holders)
    waiting = machine.job()
    assert next_line(waiting).startswith("waiting for a GPU: ")
    holders[0].kill()
    assert next_line(waiting) in taken


def test_a_small_gpu_is_held_until_its_job_ends(machine):
    first = machine.holder()
    second = machine.job()
    assert next_line(second).startswith("waiting")
    send_line(first)
    assert next_line(first) == "released"
    with pytest.raises(Timeout):
        FileLock(machine.folder / "locks" / f"{A}.lock").acquire(timeout=0.2)
    first.stdin.close()
    first.wait()
    assert next_line(second) == f"took 0 {A}"


def test_a_job_that_still_writes_its_results_keeps_no_other_job_from_the_gpu(machine):
    machine.has_memory("0, 81559")
    first = machine.holder()
    machine.has_processes(f"{A}, {first.pid}, python")
    send_line(first)
    assert next_line(first) == "released"
    assert next_line(machine.job()) == f"took 0 {A}"


def test_another_program_of_this_user_keeps_a_job_from_the_gpu(machine):
    machine.has_gpus(ONE)
    other = subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    machine.processes.append(other)
    machine.has_processes(f"{A}, {other.pid}, sleep")
    assert next_line(machine.job()).startswith(f"waiting for a GPU: GPU 0 is used by sleep (process {other.pid})")


def test_a_process_takes_its_gpu_again_although_nvidia_smi_lists_it_there(machine):
    machine.has_memory("0, 81559")
    program = HOLDER.replace("sys.stdin.read()", "print(take_gpu(say=print).index, flush=True)")
    job = machine.holder(program)
    machine.has_processes(f"{A}, {job.pid}, python")
    send_line(job)
    assert [next_line(job), next_line(job)] == ["released", "0"]


def test_a_gpu_on_which_another_program_computes_is_not_taken(machine):
    machine.has_gpus(TWO)
    machine.has_processes(f"{A}, 4711, python")
    assert next_line(machine.job()) == f"took 1 {B}"


def test_a_job_waits_for_other_programs_and_names_them_and_the_remedy(machine):
    machine.has_gpus(ONE)
    machine.has_processes(f"{A}, 4711, /usr/bin/python")
    job = machine.job()
    assert next_line(job) == (
        f"waiting for a GPU: GPU 0 is used by /usr/bin/python (process 4711); {SHARE_GPUS_VARIABLE}=1 shares it"
    )
    machine.has_processes()
    assert next_line(job) == f"took 0 {A}"


@pytest.mark.parametrize(
    "variables", [{SHARE_GPUS_VARIABLE: "1"}, {"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": A}]
)
def test_a_gpu_of_other_programs_is_taken_if_the_environment_says_so(machine, variables):
    machine.has_gpus(TWO)
    machine.has_processes(f"{A}, 4711, python", f"{B}, 4712, python")
    assert next_line(machine.job(**variables)) == f"took 0 {A}"


def test_a_named_gpu_still_has_one_job_of_this_program(machine):
    machine.has_gpus(TWO)
    assert next_line(machine.job(CUDA_VISIBLE_DEVICES="1")) == f"took 1 {B}"
    assert next_line(machine.job(CUDA_VISIBLE_DEVICES="1")) == "waiting for a GPU: GPU 1 is held by another job"


def test_a_slice_is_taken_by_its_uuid(machine):
    machine.has_gpus(SLICED)
    assert next_line(machine.job(CUDA_VISIBLE_DEVICES=SLICES[1])) == f"took 1 {SLICES[1]}"


def test_without_a_gpu_nothing_is_taken(machine):
    assert next_line(machine.job()) == "took None None"


def test_a_lock_folder_that_cannot_be_created_is_an_input_error(machine, monkeypatch):
    (machine.folder / "file").touch()
    monkeypatch.setenv(LOCK_FOLDER_VARIABLE, str(machine.folder / "file"))
    with pytest.raises(InputError, match=f"set {LOCK_FOLDER_VARIABLE} to another folder"):
        lock_folder()


@pytest.mark.parametrize("value", ["1", ""])
def test_the_former_name_of_a_variable_is_refused_with_the_new_one(monkeypatch, value):
    monkeypatch.delenv(FORMER_SHARE_GPUS_VARIABLE, raising=False)
    check_environment()
    monkeypatch.setenv(FORMER_SHARE_GPUS_VARIABLE, value)
    with pytest.raises(InputError) as raised:
        check_environment()
    assert str(raised.value) == (
        "environment: GPT2_ABLATIONS_SHARE_CARDS is now called GPT2_ABLATIONS_SHARE_GPUS;"
        " unset GPT2_ABLATIONS_SHARE_CARDS, and set GPT2_ABLATIONS_SHARE_GPUS=1 to share GPUs with other programs"
    )


def test_a_job_on_the_cpu_uses_the_threads_of_omp_num_threads():
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
