"""A search read back from its folder."""

import fcntl
import json

import tuning
from tuning import tables
from tuning.store import Store


def test_a_searchs_state_is_interrupted_where_nobody_runs_it(tmp_path):
    (tmp_path / "search.json").write_text(json.dumps({"hyperparameters": {}, "direction": "max"}))
    Store(tmp_path).close()
    (tmp_path / "search.lock").write_text("")
    assert tables.described(tmp_path)["state"] == "interrupted"
    with open(tmp_path / "search.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert tables.described(tmp_path)["state"] == "running"


def test_results_of_a_journal_by_hand(tmp_path):
    (tmp_path / "search.json").write_text(json.dumps({"hyperparameters": {"a": {}, "b": {}}, "direction": "max"}))
    store = Store(tmp_path)
    with store.writing():
        store.put_fact("began", 100.0)
        store.add_trial(0, {"a": 1}, {}, 101.0)
        store.add_trial(1, {"a": 2, "b": "x"}, {}, 102.0)
        store.add_report(0, 1, 0.9, {})
        store.add_report(0, 2, 0.8, {})
        store.set_trial(0, status="pruned", score=0.9, best_epoch=1, ended=105.0)
    table = tuning.results(tmp_path)
    assert table["trial"].tolist() == [0, 1]
    assert table["epochs"].tolist() == [2, 0]
    assert table["b"].isna().tolist() == [True, False]
    assert table["started"].tolist() == [1.0, 2.0]
    assert table["ended"][0] == 5.0
    assert tables.best(table, "max")["trial"] == 0
    with store.writing():
        store.set_trial(1, status="completed", score=0.5)
    assert tables.best(tuning.results(tmp_path), "max")["trial"] == 0
    assert tables.best(tuning.results(tmp_path), "min")["trial"] == 1
    with store.writing():
        store.set_trial(1, status="failed", score=None)
        store.set_trial(0, status="running")
    assert tables.best(tuning.results(tmp_path), "max") is None
    store.close()


def test_a_winner_is_told_until_another_trial_has_overtaken_it(tmp_path):
    (tmp_path / "search.json").write_text(json.dumps({"hyperparameters": {"a": {}}, "direction": "max"}))
    (tmp_path / "winner").mkdir()
    (tmp_path / "winner" / "run.json").write_text(json.dumps({"of_trial": 0, "result": {"accuracy": 0.25}}))
    store = Store(tmp_path)
    with store.writing():
        store.put_fact("began", 100.0)
        store.add_trial(0, {"a": 1}, {}, 101.0)
        store.set_trial(0, status="completed", score=0.5)
    winner = tables.described(tmp_path)["winner"]
    assert (winner["trial"], winner["score"], winner["test_accuracy"]) == (0, 0.5, 0.25)
    with store.writing():
        store.add_trial(1, {"a": 2}, {}, 102.0)
        store.set_trial(1, status="completed", score=0.75)
    assert tables.described(tmp_path)["winner"] is None
    store.close()
