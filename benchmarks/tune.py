"""What a search loses to a killed worker, what two workers gain, what a hundred trials cost in memory, and what is lost
where bad trials stop early.

    python benchmarks/tune.py kill      # six trials, one of two workers killed: plain KerasTuner, then kerascnn
    python benchmarks/tune.py workers   # twelve single-threaded trials by one worker and by two
    python benchmarks/tune.py memory    # resident memory of chief and worker over a hundred tiny trials
    python benchmarks/tune.py pruning FOLDER  # searches in full and with early stopping, on a folder of class folders

Each prints a table and writes its part of benchmarks/results/tune.json. Plain KerasTuner needs tensorboard installed,
or each of its trials fails.
"""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas
from cyclopts import App

import tuning

RESULTS = Path(__file__).parent / "results" / "tune.json"
SPACE = """
model = "lenet5"
data = "digits"
batch_size = {batch_size}
precision = "float32"
[search.learning_rate]
low = 1e-4
high = 1e-1
log = true
"""
REAL = """
model = "cifar_net"
image_size = 12
optimizer = "adam"
batch_size = 100
validation = 0.25
augment = ["flip", "crop"]
[search.rate_patience]
low = 2
high = 10
[search.dropout]
low = 0.0
high = 0.7
[search.learning_rate]
low = 1e-5
high = 1e-1
log = true
"""
PLAIN = """
import sys, time
import keras, keras_tuner, numpy as np

def build(hp):
    model = keras.Sequential([keras.layers.Dense(10, activation="softmax")])
    rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

class Slow(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        time.sleep(2)

x, y = np.random.default_rng(0).random((256, 64), "float32"), np.arange(256) % 10
tuner = keras_tuner.RandomSearch(build, "val_accuracy", max_trials=6, directory=sys.argv[1], project_name="plain")
tuner.search(x, y, validation_data=(x, y), epochs=3, callbacks=[Slow()], verbose=0)
"""
app = App(help=__doc__, help_format="plaintext")


def write(name, value):
    """Put one measurement into the results file."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    machine = {"cores": len(os.sched_getaffinity(0)), "date": time.strftime("%Y-%m-%d")}
    RESULTS.write_text(json.dumps({**known, name: {**value, **machine}}, indent=2) + "\n")
    print(pandas.Series(value).to_string())


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def search(folder, *words, trials, epochs, batch_size=64):
    """The words of a `kerascnn tune` over LeNet-5 on the digits, without early stopping."""
    (folder / "space.toml").write_text(SPACE.format(batch_size=batch_size))
    command = [sys.executable, "-m", "kerascnn", "tune", "--search", folder / "space.toml", "--winner", "none"]
    command += ["--stop-early", "none", "--trials", trials, "--epochs", epochs, "--out", folder / "search", *words]
    return list(map(str, command))


def wait(process, seconds):
    """True if a process ends within so many seconds; it is killed otherwise."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


@app.command
def kill(limit: float = 240.0):
    """Six trials with one of two workers killed, by plain KerasTuner and by kerascnn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plain.py").write_text(PLAIN)
        common = {**os.environ, "KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(free_port())}
        started = {}
        for tuner in ("chief", "worker0", "worker1"):
            environment = {**common, "KERASTUNER_TUNER_ID": tuner}
            command = [sys.executable, folder / "plain.py", folder / "kt"]
            started[tuner] = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while len(list(folder.glob("kt/plain/trial_*"))) < 2:
            time.sleep(0.2)
        time.sleep(1)
        started["worker0"].send_signal(signal.SIGKILL)
        wait(started["worker1"], limit)
        plain_ended = wait(started["chief"], 30)
        states = [json.loads(path.read_text())["status"] for path in folder.glob("kt/plain/trial_*/trial.json")]

        address = f"127.0.0.1:{free_port()}"
        chief = subprocess.Popen(
            search(folder, "--workers", 0, "--listen", address, "--lease", 4, trials=6, epochs=3),
            stdout=subprocess.DEVNULL,
        )
        join = [sys.executable, "-m", "kerascnn", "tune-worker", "--join", address]
        workers = [subprocess.Popen(join, stdout=subprocess.DEVNULL) for _ in range(2)]
        while len(list(folder.glob("search/trials/*/metrics.csv"))) < 2:
            time.sleep(0.2)
        workers[0].kill()
        ours_ended = wait(chief, limit)
        wait(workers[1], 30)
        table = tuning.results(folder / "search")
        write(
            "kill",
            {
                "keras_tuner_completed_of_6": states.count("COMPLETED"),
                "keras_tuner_chief_ended": plain_ended,
                "kerascnn_completed_of_6": int((table["status"] == "completed").sum()),
                "kerascnn_chief_ended": ours_ended,
            },
        )


@app.command
def workers(trials: int = 12, epochs: int = 40):
    """Wall seconds of single-threaded trials by one worker and by two."""
    seconds = {}
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as name:
            words = search(Path(name), "--workers", count, trials=trials, epochs=epochs)
            cores = sorted(os.sched_getaffinity(0))[:count]  # one core a worker: the trials are single-threaded
            began = time.monotonic()
            subprocess.run(["taskset", "-c", ",".join(map(str, cores)), *words], check=True, stdout=subprocess.DEVNULL)
            seconds[count] = time.monotonic() - began
    write(
        "workers",
        {"trials": trials, "one_seconds": seconds[1], "two_seconds": seconds[2], "ratio": seconds[2] / seconds[1]},
    )


def resident(pid):
    """Resident memory of a process, MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@app.command
def memory(trials: int = 100):
    """Resident memory of chief and worker after a tenth of the trials and at the end, MB."""
    with tempfile.TemporaryDirectory() as name:
        folder, address = Path(name), f"127.0.0.1:{free_port()}"
        words = search(folder, "--workers", 0, "--listen", address, trials=trials, epochs=1, batch_size=512)
        chief = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        worker = subprocess.Popen([sys.executable, "-m", "kerascnn", "tune-worker", "--join", address])
        seen = {}
        while chief.poll() is None:
            count = len(list(folder.glob("search/trials/*/best.keras")))
            if count and worker.poll() is None:
                seen[count] = (resident(chief.pid), resident(worker.pid))
            time.sleep(0.5)
        worker.wait()
    early, late = seen[min(seen, key=lambda n: abs(n - trials // 10))], seen[max(n for n in seen if n < trials)]
    write(
        "memory",
        {
            "trials": trials,
            "chief_mb_after_a_tenth": early[0],
            "chief_mb_at_the_end": late[0],
            "worker_mb_after_a_tenth": early[1],
            "worker_mb_at_the_end": late[1],
        },
    )


@app.command
def pruning(
    data: Path,
    /,
    seeds: tuple[int, ...] = (0, 1, 2),
    trials: int = 16,
    epochs: int = 27,
    out: Path = RESULTS.parents[2] / "saved_models" / "pruning",
):
    """The best validation accuracy, and the epochs trained, of searches in full and with successive halving.

    The searches stay in `out`: one that is there is read, and one that was interrupted goes on.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "space.toml").write_text(REAL)
    searches = []
    for rule, seed in itertools.product(("none", "halving"), seeds):
        folder = out / f"{rule}-seed{seed}"
        command = [sys.executable, "-m", "kerascnn", "tune", data, "--search", out / "space.toml", "--seed", seed]
        command += ["--trials", trials, "--epochs", epochs, "--stop-early", rule, "--winner", "none", "--out", folder]
        if not (folder / "results.csv").exists():
            resume = ["--resume"] if folder.exists() else []
            subprocess.run([*map(str, command), *resume, "--workers", "2"], check=True)
        table = tuning.results(folder)
        searches.append(
            {
                "rule": rule,
                "seed": seed,
                "best": float(table["score"].max()),
                "epochs": int(table["epochs"].sum()),
                "seconds": round(table["ended"].max() - table["started"].min()),
            }
        )
        print(searches[-1], flush=True)
    full, pruned = (pandas.DataFrame(searches).query(f"rule == {rule!r}") for rule in ("none", "halving"))
    write(
        "pruning",
        {
            "trials": trials,
            "epochs_of_a_trial": epochs,
            "searches": searches,
            "points_lost_mean": 100 * (full["best"].mean() - pruned["best"].mean()),
            "share_of_epochs": pruned["epochs"].sum() / full["epochs"].sum(),
        },
    )


if __name__ == "__main__":
    app()
