"""The wheel in a clean environment that has no TensorFlow at all: the core runs on JAX and on PyTorch."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = re.compile(r"(tensorflow|kerascnn|tuning|__editable__|pip|_?distutils|setuptools|pkg_resources)", re.I)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment with the wheel and what it needs, except TensorFlow; returns its folder of programs."""
    folder = tmp_path_factory.mktemp("environment")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        if name.startswith(("kerascnn/", "tuning/")) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile  # a link to a folder of docs/
            copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, source]
    subprocess.run(wheel, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    get = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", get], capture_output=True, text=True, check=True).stdout.strip())
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not LEFT_OUT.match(entry.name) and not (packages / entry.name).exists():
            (packages / entry.name).symlink_to(entry)
    (built,) = folder.glob("kerascnn-*.whl")
    install = [python, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index", built]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "venv" / "bin"


def run(environment, *arguments, cwd, **variables):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "KERAS"))}
    return subprocess.run(
        [environment / arguments[0], *arguments[1:]],
        cwd=cwd, env={**inherited, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_comes_with_the_wheel(environment, tmp_path):
    done = run(environment, "kerascnn", "models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6,216,114" in done.stdout
    where = run(environment, "python", "-c", "import kerascnn, tuning; print(kerascnn.__file__)", cwd=tmp_path)
    assert str(environment.parent) in where.stdout
    copied = run(environment, "kerascnn", "course", "course", cwd=tmp_path)
    assert (copied.returncode, copied.stdout.splitlines()[0]) == (0, "10 notebooks in course")
    missing = run(environment, "python", "-c", "import tensorflow", cwd=tmp_path)
    assert "No module named 'tensorflow'" in missing.stderr


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_without_tensorflow_it_trains_predicts_and_resumes(environment, tmp_path, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"needs {backend}")
    variables = {"KERAS_BACKEND": backend}
    done = run(environment, "kerascnn", "train", "--epochs", "3", "--out", "r", cwd=tmp_path, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"({backend})" in done.stdout
    assert "SavedModel     not written: A SavedModel can only be written where TensorFlow is installed" in done.stdout
    accuracy = float(re.search(r"Test accuracy  ([\d.]+)%", done.stdout)[1])
    assert accuracy > 60
    predicted = run(environment, "kerascnn", "predict", "r", "r/samples", "--csv", cwd=tmp_path, **variables)
    assert (predicted.returncode, predicted.stderr) == (0, "")
    assert predicted.stdout.count("\n") == 51
    again = run(environment, "kerascnn", "evaluate", "r", cwd=tmp_path, **variables)
    assert f"{accuracy:.2f}%" in again.stdout
    doctor = run(environment, "kerascnn", "doctor", cwd=tmp_path, **variables)
    assert "TensorFlow is missing" in doctor.stdout


def test_without_tensorflow_a_search_keeps_its_winner(environment, tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs jax")
    (tmp_path / "space.toml").write_text('model = "lenet5"\ndata = "digits"\n[search.batch_size]\nvalues = [64, 128]\n')
    words = ["tune", "--search", "space.toml", "--trials", "1", "--epochs", "1", "--out", "s"]
    done = run(environment, "kerascnn", *words, cwd=tmp_path, KERAS_BACKEND="jax")
    assert (done.returncode, done.stderr) == (0, "")
    assert "SavedModel not written: A SavedModel can only be written where TensorFlow is installed" in done.stdout
    assert (tmp_path / "s" / "winner" / "best.keras").exists()
    assert (tmp_path / "s" / "report.html").exists()
