"""A microscope with all of its stages, killed at eight random moments, ends byte for byte like any other."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from test_pages_microscope import contents

KILLS = 8
SCRIPT = """
    import os, random, shutil, signal, sys, time
    from pathlib import Path

    sys.path.insert(0, {tests!r})
    from kerascnn.pages.microscope import collect, features
    from test_pages_microscope import build, contents

    features.STEPS, features.AT_ONCE = 3, 2
    collect.EVERY = 0.0  # the passes, too, keep what they have after every batch

    def build_in_a_child(folder):
        child = os.fork()  # nothing has been computed yet, so that each child begins like a new process
        if not child:
            build(folder, layers="conv2,softmax", top=2, maps=1, looks=2, feature_images=True, batch_size=8)
            os._exit(0)
        return child

    whole, killed, kills, whole_again = Path("whole"), Path("killed"), 0, 0
    began = time.monotonic()
    assert os.waitpid(build_in_a_child(whole), 0)[1] == 0
    seconds = time.monotonic() - began
    random.seed(7)
    while kills < {kills}:
        child = build_in_a_child(killed)
        time.sleep(random.uniform(0, seconds / 2))
        os.kill(child, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            kills += 1
        else:  # it had ended before
            assert contents(killed) == contents(whole)
            shutil.rmtree(killed)
            whole_again += 1
    assert os.waitpid(build_in_a_child(killed), 0)[1] == 0
    print(kills, "kills,", whole_again, "ended between them,", round(seconds, 1), "seconds a build")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_killed_at_random_moments_it_ends_the_same(tmp_path):
    text = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), kills=KILLS)
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(f"{KILLS} kills")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert (tmp_path / "killed/images").is_dir()
    assert list((tmp_path / "killed/units/conv2").glob("*-feature.webp"))
    assert list((tmp_path / "killed/images").glob("*-looks.webp"))
