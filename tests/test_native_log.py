import gc
import os
import subprocess
import sys

CODE = """
import os, sys
from kerascnn.native_log import native_log
with native_log() as log:
    os.write(2, b"native one\\n")
    print("for the user", file=sys.stderr)
    log.move(sys.argv[1])
    os.write(2, b"native two\\n")
os.write(2, b"after\\n")
"""


def test_native_lines_go_to_the_file_and_pythons_to_the_terminal(tmp_path):
    path = tmp_path / "native.log"
    path.write_text("from an earlier process\n")
    done = subprocess.run([sys.executable, "-c", CODE, path], capture_output=True, text=True, check=True)
    assert done.stderr == "for the user\nafter\n"
    assert path.read_text() == "from an earlier process\nnative one\nnative two\n"


def test_descriptors_are_given_back():
    from kerascnn.native_log import native_log

    gc.collect()  # which closes what other tests have left
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(3):
        with native_log():
            pass
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after <= before
