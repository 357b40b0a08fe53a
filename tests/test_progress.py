"""Lines of progress, with a clock that is set by hand."""

from kerascnn.progress import Progress, clock


def told(total, steps):
    """The lines of steps (seconds, text, worked)."""
    time, lines = [0.0], []
    progress = Progress("network", total, lines.append, lambda: time[0])
    for seconds, text, worked in steps:
        time[0] += seconds
        progress.step(text, worked=worked)
    return lines


def test_the_time_left_is_that_of_the_steps_so_far():
    """Two steps of 30 s each: 60 s for two more; three steps in 90 s: 30 s for the last."""
    assert told(4, [(30, "a", True), (30, "b", True), (30, "c", True), (30, "d", True)]) == [
        "network 1/4  a  ETA 1:30",
        "network 2/4  b  ETA 1:00",
        "network 3/4  c  ETA 0:30",
        "network 4/4  d",
    ]


def test_what_was_there_already_counts_for_nothing():
    """Ten steps that took no time, then one of 20 s: one more takes 20 s."""
    steps = [(0, "kept", False)] * 10 + [(20, "new", True)]
    assert told(12, steps) == ["network 11/12  new  ETA 0:20"]


def test_steps_without_a_text_are_told_every_five_seconds():
    assert told(100, [(1, None, True)] * 12) == ["network   5/100  ETA 1:35", "network  10/100  ETA 1:30"]
    Progress("network", 1).step("nothing listens")


def test_times():
    assert [clock(seconds) for seconds in (0, 59.4, 61, 3600, 7325)] == ["0:00", "0:59", "1:01", "1:00:00", "2:02:05"]
