"""GPUs count only if the installed torch can use them. A written tree of the kernel's files stands in for AMD's."""

from pathlib import Path

import pytest
import torch

from gpt2_ablations.common import gpus
from gpt2_ablations.common.gpus import Gpu, backend_in, take_gpu, torch_backend, usable_gpus, visible_gpus


@pytest.mark.parametrize(
    ("content", "backend"),
    [
        ("__version__ = '2.6.0'\ncuda: Optional[str] = '12.4'\nhip: Optional[str] = None\n", "cuda"),
        ("cuda = '11.8'", "cuda"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.2.41134'\n", "hip"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\nxpu: Optional[str] = None\n", None),
        ("", None),
    ],
)
def test_the_package_of_torch_tells_its_gpus(content, backend, tmp_path):
    (tmp_path / "version.py").write_text(content)
    assert backend_in(tmp_path / "version.py") == backend


def test_a_package_without_the_file_is_for_no_gpu(tmp_path):
    assert backend_in(tmp_path / "version.py") is None


def test_the_installed_torch_says_the_same_when_it_is_imported():
    built_for = {"cuda": torch.version.cuda, "hip": torch.version.hip}
    assert torch_backend() == next((name for name, version in built_for.items() if version), None)


@pytest.fixture
def nvidia_machine(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA L4 (UUID: GPU-0aaaaaaa)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(("backend", "count"), [("cuda", 1), (None, 0), ("hip", 0)])
def test_a_gpu_of_nvidia_counts_if_torch_is_built_for_it(nvidia_machine, backend, count, tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "torch_backend", lambda: backend)
    monkeypatch.setattr(gpus, "KFD_NODES", tmp_path / "none")
    assert len(usable_gpus()) == count


@pytest.fixture
def amd_machine(tmp_path, monkeypatch):
    """A machine with a processor, three GPUs of which a container sees two, and a torch for them."""
    monkeypatch.setattr(gpus, "torch_backend", lambda: "hip")
    monkeypatch.setattr(gpus, "KFD_NODES", tmp_path / "nodes")
    monkeypatch.setattr(gpus, "RENDER_DEVICES", tmp_path / "dri")
    monkeypatch.setattr(gpus, "_held", [])
    monkeypatch.setenv(gpus.LOCK_FOLDER_VARIABLE, str(tmp_path / "locks"))
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    for number, (simds, minor) in enumerate([(0, 0), (320, 128), (320, 129), (320, 130)]):
        file = tmp_path / "nodes" / str(number) / "properties"
        file.parent.mkdir(parents=True)
        file.write_text(
            f"cpu_cores_count 0\nsimd_count {simds}\ndrm_render_minor {minor}\nunique_id {number}{number}\n"
        )
    (tmp_path / "dri").mkdir()
    for minor in (128, 130):
        (tmp_path / "dri" / f"renderD{minor}").touch()


FIRST, SECOND = Gpu(0, "AMD-11", hip_index=0), Gpu(1, "AMD-33", hip_index=1)


@pytest.mark.parametrize(
    ("variables", "seen"),
    [
        ({}, [FIRST, SECOND]),
        ({"HIP_VISIBLE_DEVICES": "1"}, [SECOND]),
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, [SECOND, FIRST]),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "1"}, [FIRST]),
        ({"ROCR_VISIBLE_DEVICES": "1"}, [Gpu(1, "AMD-33", hip_index=0)]),
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}, [Gpu(1, "AMD-33", hip_index=0)]),
        ({"HIP_VISIBLE_DEVICES": "5"}, []),
    ],
)
def test_gpus_of_amd_are_counted_by_the_variables_of_its_libraries(amd_machine, variables, seen, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert usable_gpus() == visible_gpus() == seen


def test_a_job_takes_a_gpu_of_amd_for_itself(amd_machine, monkeypatch):
    assert take_gpu() == FIRST
    assert gpus.os.environ["HIP_VISIBLE_DEVICES"] == "0"
    assert (Path(gpus.os.environ[gpus.LOCK_FOLDER_VARIABLE]) / "AMD-11.lock").is_file()
