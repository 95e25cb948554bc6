"""What a plan counts: memory as measured, whole nodes, scripts that run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from motus_embodiments import UsageError
from motus_model import SIZES, Motus
from motus_model.encoders import TinyPerception
from motus_recipes import choose_devices, load_recipe, plan, write_launch_script
from motus_recipes.schema import Lora
from motus_recipes.training.launching import LAUNCHERS
from motus_recipes.training.lora import add_lora
from motus_recipes.training.planning import FLOAT, GIB, Load

MEASURE = """
import sys, torch
from motus_model import SIZES, Motus
from motus_recipes.training.counting import forward
torch.set_num_threads(1)
model, batch = SIZES[sys.argv[3]], int(sys.argv[1])
def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) * 1024
def steps(count, size):
    network = Motus(model.network).train()
    network.checkpointing = sys.argv[2] == "True"
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    for _ in range(count):
        optimizer.zero_grad(set_to_none=True)
        forward(network, model, size)[0].backward()
        optimizer.step()
steps(1, 1)  # loads what code is used
before = status("VmRSS")
steps(2, batch)
print(status("VmHWM") - before)
"""


@pytest.mark.parametrize(
    ("size", "batch", "again"),
    [
        ("tiny", 4, False),
        pytest.param("tiny", 16, True, marks=pytest.mark.slow),
        pytest.param("small", 1, False, marks=pytest.mark.slow),
    ],
)
def test_a_steps_peak_is_within_a_tenth_of_measured_memory(size: str, batch: int, again: bool):
    """At few windows the weights, gradients and moments are half of it."""
    # Big blocks go back to the system at once, so that its peak is the peak of what is in use.
    threshold = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    out = subprocess.run(
        [sys.executable, "-c", MEASURE, str(batch), str(again), size],
        env={**os.environ, **threshold, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    changes = ["stages.stage3.optimizer.ema=0", f"engine.checkpointing={again}"]
    recipe = load_recipe("stage3", size, changes)
    counted = Load.of(recipe.spec.stages[0], recipe, batch).memory(batch, 1)
    assert counted.peak * GIB == pytest.approx(int(out.stdout), rel=0.1)


def test_the_full_size_is_planned():
    recipe = load_recipe("full", "motus-8b")
    report = plan(recipe, "64xH100")
    alike = {stage.name: stage for stage in report.stages}
    memory = {row.stage: row for row in report.memory_gib}
    assert list(alike) == list(memory) == ["codec", "stage1", "stage2", "stage3"]
    stage, used = alike["stage3"], memory["stage3"]
    assert stage.trained == 4_999_787_712 + 641_527_822 + 253_493_760
    assert used.optimizer == pytest.approx(2 * stage.trained * FLOAT / 64 / 2**30)
    assert used.activations_checkpointed < 0.5 * used.activations
    assert used.encoders > 16  # UMT5 and Qwen3-VL in bf16, the autoencoder in float32
    assert stage.fits
    assert stage.microbatch_here == 0  # 80 GB would do, but nothing is sharded on one device
    # The deep-compression autoencoder is frozen, in float32; only the light layers train.
    assert memory["codec"].encoders == pytest.approx(1_120_682_252 * FLOAT / 2**30)
    assert alike["codec"].trained < 1_500_000
    assert alike["codec"].fits
    assert alike["stage1"].paper_gpu_hours == 8000
    assert alike["stage1"].tokens < stage.tokens
    # Six operations a weight and token are the rule of thumb; attention comes on top.
    floor = 6 * alike["stage1"].trained * alike["stage1"].tokens / 1e12
    assert 1 < alike["stage1"].tflops / floor < 2.2


@pytest.mark.slow
def test_sharding_saves_what_it_says():
    whole, split = (
        plan(load_recipe("full", "motus-8b", [f"engine.sharding={kind}"]), "64xH100").memory_gib[3]
        for kind in ("ddp", "fsdp")
    )
    assert whole.peak > split.peak
    assert whole.optimizer == pytest.approx(64 * split.optimizer)


def test_every_recipe_can_be_planned_for_one_device():
    for name in ("codec", "frames"):
        report = plan(load_recipe(name), "1xRTX4090")
        assert all(stage.tflops > 0 and stage.fits for stage in report.stages)
        assert all(row.peak > 3 * row.weights for row in report.memory_gib)


@pytest.mark.parametrize(
    ("devices", "told"),
    [("H100", "COUNTxKIND"), ("8xH1000", "no device"), ("7xH100", "do not split")],
)
def test_devices_that_cannot_be(devices: str, told: str):
    with pytest.raises(UsageError, match=told):
        plan(load_recipe("full", "motus-8b"), devices)


def test_devices_that_are_left_out_split_every_batch():
    assert choose_devices(load_recipe("full")) == "4xH100"  # batches of 60 and 32
    assert choose_devices(load_recipe("full", "motus-8b")) == "8xH100"
    assert choose_devices(load_recipe("smoke", "small")) == "1xH100"  # 8 in parts of 8
    with pytest.raises(UsageError) as error:
        choose_devices(load_recipe("smoke", "small"), "2xH100")
    assert "divides 1" in (error.value.hint or "")
    with pytest.raises(UsageError) as error:
        choose_devices(load_recipe("full", overrides=["engine.microbatch=3"]))
    assert error.value.hint == "engine.microbatch must divide 4"


def test_a_script_is_not_written_for_devices_that_training_would_refuse(motus):
    ran = motus("plan", "--devices", "8xH100", "--launch", "slurm", "--out", "job")
    assert ran.code == 2
    assert "batches of 60" in ran.err
    assert not Path("job").exists()


def test_baselines_are_not_counted():
    with pytest.raises(UsageError, match="stage 'resnet18' is a baseline"):
        plan(load_recipe("idm"))


TRAIN = ["--recipe", "full", "--size", "motus-8b", "--run", "runs/my run"]


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_a_script_starts_every_process_with_the_command(launcher: str, tmp_path: Path):
    """A dry run: the launcher's programs are replaced by ones that print what they are given."""
    report = write_launch_script(launcher, TRAIN, "16xH100", out=tmp_path / "job")
    assert report.nodes == 2
    text = report.script.read_text()
    if launcher == "skypilot":
        job = yaml.safe_load(text)
        assert job["resources"]["accelerators"] == "H100:8"
        assert job["num_nodes"] == 2
        text = job["run"]
    for name in ("torchrun", "accelerate", "srun", "scontrol"):
        program = tmp_path / name
        body = "echo node0; echo node1" if name == "scontrol" else 'printf "%s\\n" "$0" "$@"'
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)
    known = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n", "SKYPILOT_NODE_IPS": "node0\nnode1"}
    out = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HEAD": "node0", "SKYPILOT_NODE_RANK": "1"}
        | known,
        capture_output=True,
        text=True,
        check=True,
    )
    words = out.stdout.splitlines()
    assert words[words.index("motus") :] == ["motus", "train", *TRAIN, "--resume"]
    assert any("node0" in word for word in words)


def test_torchrun_understands_its_script(tmp_path: Path):
    """The real torchrun, with two processes and a program in the place of motus."""
    report = write_launch_script("torchrun", ["--recipe", "full"], "2xH100", out=tmp_path / "job")
    program = tmp_path / "motus"
    program.write_text('#!/bin/bash\necho "rank $RANK of $WORLD_SIZE: $*"\n')
    program.chmod(0o755)
    folder = Path(sys.executable).parent
    out = subprocess.run(
        ["bash", "-eu", str(report.script)],
        env={**os.environ, "PATH": f"{tmp_path}:{folder}:/usr/bin:/bin", "HEAD": "localhost"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(out.stdout.splitlines()) == [
        f"rank {rank} of 2: train --recipe full --resume" for rank in range(2)
    ]


def test_accelerate_understands_its_script(tmp_path: Path):
    """Its own parser reads what the script would give it."""
    from accelerate.commands.launch import launch_command_parser

    report = write_launch_script("accelerate", ["--recipe", "full"], "16xH100", out=tmp_path / "j")
    program = tmp_path / "accelerate"
    program.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    out = subprocess.run(
        ["bash", "-eu", str(report.script)],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HEAD": "node0", "NODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    launch, *words = out.stdout.splitlines()
    assert launch == "launch"
    read = launch_command_parser().parse_args(words)
    assert (read.num_machines, read.num_processes, read.machine_rank) == (2, 16, 1)
    assert (read.main_process_ip, read.main_process_port) == ("node0", 29500)
    assert read.multi_gpu
    assert read.no_python
    assert read.training_script == "motus"
    assert read.training_script_args == ["train", "--recipe", "full", "--resume"]


def test_a_script_is_not_overwritten(tmp_path: Path):
    write_launch_script("slurm", TRAIN, "8xH100", out=tmp_path / "job")
    with pytest.raises(UsageError, match="exists"):
        write_launch_script("slurm", TRAIN, "8xH100", out=tmp_path / "job")
    with pytest.raises(UsageError, match="don't fill"):
        write_launch_script("slurm", TRAIN, "12xH100", out=tmp_path / "other")


@pytest.mark.parametrize(("size", "seen"), [("tiny", 54 + 3 + 12), ("small", 216 + 3 + 32)])
def test_perceptions_tokens_are_those_of_its_size(size: str, seen: int):
    encoders = SIZES[size].encoders
    perception = TinyPerception(encoders)
    images = torch.zeros(1, 3, *SIZES[size].canvas)
    assert perception(images, ["push"]).tokens.shape[1] == encoders.tokens == seen


def tokens(*changes: str) -> int:
    recipe = load_recipe("stage3", overrides=["stages.stage3.batch=1", *changes])
    return plan(recipe, "1xH100").stages[0].tokens


def test_the_windows_actions_are_counted():
    # One latent frame of 18 x 12 in patches of 3 x 3 is 24 tokens; so are the two to come.
    assert tokens() == 3 * 24 + 69 + 8 + 5
    assert tokens("window.action_steps=20") == tokens() + 12


def test_adapters_are_what_lora_trains():
    network = Motus(SIZES["tiny"].network)
    add_lora(network, Lora(experts=("video", "action"), rank=2))
    real = sum(p.numel() for p in network.parameters() if p.requires_grad)
    told = ["stages.stage3.lora={experts: [video, action], rank: 2}"]
    recipe = load_recipe("stage3", overrides=told)
    report = plan(recipe, "1xH100")
    whole = plan(load_recipe("stage3"), "1xH100")
    assert report.stages[0].trained == real < 0.5 * whole.stages[0].trained
    assert report.memory_gib[0].optimizer == pytest.approx(2 * real * FLOAT / GIB)
    assert report.memory_gib[0].weights > whole.memory_gib[0].weights
