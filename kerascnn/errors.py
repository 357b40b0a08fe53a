"""Errors that the user can fix: each says what was received, what is allowed and what to type."""

import difflib
import errno
import numbers
import os
import re
import shlex
import signal


class UsageError(ValueError):
    """Something typed is not allowed: a name, a value, a combination. The command line exits 2."""


class DataError(ValueError):
    """A file or folder does not hold what it should. The command line exits 1."""


class TrainingFailed(RuntimeError):  # noqa: N818 (what happened, in the words of run.json)
    """Training could not continue; the run folder says why and keeps the best weights so far."""


class HostLost(RuntimeError):  # noqa: N818 (what happened)
    """Another host of a training is gone. The command line exits 75, which says that the same command can resume it."""


class Stopped(Exception):  # noqa: N818 (not an error)
    """Training was stopped by a signal; its state was saved in the run's folder."""

    def __init__(self, signal_number, folder, epoch, step, hosts=1):
        again = f"with: {command('train', '--resume', folder)}"
        if hosts > 1:
            again = "with the same command on all hosts"
            again += f"; if it named no folder, add --out {shlex.quote(str(folder))}" if folder else "."
        super().__init__(
            f"stopped by {signal.Signals(signal_number).name} in epoch {epoch + 1} after step {step}. Resume {again}"
        )
        self.signal_number = signal_number


def counted(number, noun, plural=None):
    """A number and its noun: "1 image", "2,000 images", "0 images"; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def whole(name, value, least=1):
    """A parameter's value as an int; a UsageError if it is no whole number, or less than `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise UsageError(f"{name}={value!r} is not allowed: it must be a whole number, at least {least}.")
    return int(value)


FULL = {  # what libraries say of a disk that holds no more, and Python's number for it
    "No space left on device": errno.ENOSPC,
    "errno = 28": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
}


def disk_full(error):
    """The words for an exception that a full disk, a quota or a limit of file sizes caused, with the file where it is
    known; "" for any other. HDF5, TensorFlow and SQLite raise errors of their own for it."""
    while error is not None:
        number, text = getattr(error, "errno", None), str(error)
        if number not in FULL.values():
            number = next((FULL[words] for words in FULL if words in text), None)
        if number:
            words = getattr(error, "strerror", None) or ""
            if not any(words.startswith(known) for known in FULL):
                words = os.strerror(number)
            hdf5 = re.search(r"filename = '([^']+)'", text)
            name = getattr(error, "filename", None) or (hdf5 and hdf5[1])
            return f"{words}: {name}" if name else words
        error = error.__cause__ or error.__context__
    return ""


def command(*words):
    """What to type for one of our commands, such as command("export", folder), whatever a folder is called."""
    return shlex.join(["kerascnn", *map(str, words)])


def nearest(name, known, n=3):
    """The known names most like `name`, best first, at most `n`; upper and lower case count as the same."""
    lower = {str(k).lower(): str(k) for k in known}
    return [lower[m] for m in difflib.get_close_matches(str(name).lower(), list(lower), n=n, cutoff=0.5)]


def unknown(kind, name, known, hint=""):
    """The UsageError for a name that is not among the known ones.

    Args:
        kind: what the name should have named, as in "model" or "recipe field".
        name: what was received.
        known: the names allowed; all are listed when they are few.
        hint: a command that lists them.
    """
    known = [str(k) for k in known]
    guesses = nearest(name, known)
    parts = [f"Unknown {kind} {str(name)!r}."]
    if guesses:
        parts.append("Did you mean " + " or ".join(repr(g) for g in guesses) + "?")
    if len(known) <= 24:
        parts.append(f"Known: {', '.join(known) or 'none'}.")
    if hint:
        parts.append(f"List them: {hint}")
    return UsageError(" ".join(parts))
