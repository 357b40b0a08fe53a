"""The journal of a search stays whole, whatever kills its writer."""

import os
import random
import shutil
import signal
import sqlite3
import time

import pytest

from tuning.store import Store


def write_for_ever(folder, told):
    """In a child process: two rows that belong together, again and again, after a byte once the journal is open."""
    store = Store(folder)
    os.write(told, b"o")
    for number in range(store.count(), 10**9):
        with store.writing():
            store.add_trial(number, {"learning_rate": 0.1}, {"model": "lenet5"}, 0.0)
            store.add_report(number, 1, 0.5, {"loss": 1.0})
            store.put_fact("last", number)


def check_whole(folder):
    """The number of trials, after checking that each has what was written with it."""
    store = Store(folder)
    try:
        trials = [row["trial"] for row in store.trials()]
        assert trials == list(range(len(trials)))
        assert [row["trial"] for row in store.reports()] == trials
        assert [event["trial"] for event in store.events()] == trials
        assert store.fact("last", -1) == len(trials) - 1
        assert store.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        return len(trials)
    finally:
        store.close()


def kill_while_writing(folder, seconds):
    """Kill a writer so long after it has opened the journal."""
    opened, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write_for_ever(folder, told)
        finally:
            os._exit(1)
    os.read(opened, 1)
    os.close(opened)
    os.close(told)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


@pytest.mark.parametrize("kills", [20, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_journal_whose_writer_is_killed_opens_again(kills, tmp_path):
    rng = random.Random(0)
    counts = []
    for number in range(kills):
        if number % 50 == 0:
            shutil.rmtree(tmp_path / "search", ignore_errors=True)
            (tmp_path / "search").mkdir()
        kill_while_writing(tmp_path / "search", rng.uniform(0.001, 0.06))
        counts.append(check_whole(tmp_path / "search"))
    assert max(counts) > 0  # it did write


def test_a_journal_is_whole_at_every_write_of_a_transaction(tmp_path):
    """Every state that the two files go through on the disk, as a machine that loses power would leave them."""
    (tmp_path / "search").mkdir()
    store = Store(tmp_path / "search")
    with store.writing():
        store.add_trial(0, {}, {}, 0.0)
        store.add_report(0, 1, 0.5, {})
        store.put_fact("last", 0)
    copies = []

    def copy():
        target = tmp_path / f"copy{len(copies)}"
        shutil.copytree(tmp_path / "search", target)
        copies.append(target)
        return 0

    store._connection.set_progress_handler(copy, 20)  # every 20 instructions of SQLite's virtual machine
    with store.writing():
        store.add_trial(1, {}, {}, 0.0)
        store.add_report(1, 1, 0.5, {})
        store.put_fact("last", 1)
    store._connection.set_progress_handler(None, 0)
    store.close()
    assert len(copies) > 5
    assert {check_whole(folder) for folder in copies} == {1}
    assert check_whole(tmp_path / "search") == 2


def test_an_error_in_a_transaction_leaves_nothing_of_it(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError), store.writing():
        store.add_trial(0, {}, {}, 0.0)
        1 / 0  # noqa: B018
    assert store.count() == 0
    store.close()


def test_a_reader_never_writes(tmp_path):
    Store(tmp_path).close()
    store = Store(tmp_path, readonly=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store.put_fact("a", 1)
    store.close()
