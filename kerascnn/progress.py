"""Lines that say how far a long piece of work is, and how much time is left."""

import time

from kerascnn.errors import counted

EVERY = 5.0  # seconds between lines that only count


class Progress:
    """Counts steps and says lines such as "network 2/5  9.4% errors  ETA 1:20".

    Args:
        what: what is counted, in the singular.
        total: number of steps.
        say: called with each line; None: nothing is said.
        now: function without arguments that gives the time, seconds.
    """

    def __init__(self, what, total, say=None, now=time.monotonic):
        self.what, self.total, self.say, self.now = what, total, say, now
        self.done = self.worked = 0
        self.began = self.told = now()

    def step(self, text=None, *, worked=True):
        """One more step is done. Without a text, a line is said at most every five seconds.

        Args:
            text: what came out.
            worked: False if it took no time because its result already existed; it is then left out of the
                estimate of the time left, and no line is said.
        """
        self.done += 1
        self.worked += worked
        now = self.now()
        if not self.say or not worked or (text is None and now - self.told < EVERY):
            return
        self.told = now
        left = (now - self.began) / self.worked * (self.total - self.done)
        told = f"  {text}" if text else ""
        ahead = f"  ETA {clock(left)}" if self.done < self.total else ""
        self.say(f"{self.what} {self.done:{len(str(self.total))}}/{self.total}{told}{ahead}")


class Bell:
    """Rings at most every ten seconds."""

    def __init__(self, seconds=10.0):
        self.seconds, self.last = seconds, time.monotonic()

    def rings(self):
        """True if it is time to report again."""
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


def counting(say, what=""):
    """Function (done, count) that says how many images of a scan are done, at most every ten seconds."""
    bell = Bell()

    def told(done, count):
        if bell.rings():
            say(f"{what}{done:,} of {counted(count, 'image')}")

    return told


def clock(seconds):
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
