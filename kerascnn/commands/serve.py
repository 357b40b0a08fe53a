"""`kerascnn serve`: a run classifies images over HTTP."""

import contextlib
import re
import secrets
import socket

from kerascnn.commands.terminal import Subject, check_subject, computing, let_interrupts_through
from kerascnn.errors import UsageError
from kerascnn.processes import listening_socket


def serve(run: Subject, /, *, host: str = "127.0.0.1", port: int = 8000, token: str | None = None):
    """Classify images over HTTP, with a live page to try it out, until you press Ctrl-C.

    The page shows the answers, maps of what they depend on and the maps of every layer, and can switch units off. POST
    /predict?top=5 with the bytes of an image file returns its classes as JSON. TensorFlow Serving's form
    (/v1/models/NAME:predict), the Open Inference Protocol (/v2/models/NAME/infer) and /metrics also work:
    curl --data-binary @photo.jpg http://127.0.0.1:8000/predict

    Parameters
    ----------
    host
        address to listen on; any address but the loopback address lets other machines connect, which then need the
        token
    port
        port to listen on
    token
        secret that every request must send as ?token= or "Authorization: Bearer TOKEN" [default: none on the loopback
        address, otherwise one that is generated and printed]
    """
    check_subject(run)
    if not 0 < port < 65536:
        raise UsageError(f"--port {port} is not allowed: it must be from 1 to 65535.")
    if token is not None and not re.fullmatch(r"[\w.~-]{8,200}", token, re.ASCII):
        raise UsageError("--token must be 8 to 200 ASCII letters, digits, dots, hyphens, underscores or tildes.")
    with computing() as (say, _):
        from kerascnn.http_server import server
        from kerascnn.pages.guard import LOOPBACK
        from kerascnn.pages.live import service

        if host not in LOOPBACK and token is None:
            token = secrets.token_urlsafe(24)
        application = service(run, hosts=_names(host), token=token)
        try:
            listening = listening_socket(host, port)
        except OSError as error:
            raise UsageError(
                f"The server cannot listen at --host {host} --port {port}: {error.strerror or error}. "
                "Type another --port, or leave --host out."
            ) from error
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{port}{f'/?token={token}' if token else ''}  (Ctrl-C stops)")
        let_interrupts_through()  # uvicorn answers what it computes, then raises the signal again
        with contextlib.suppress(KeyboardInterrupt):
            server(application, log_level="warning").run(sockets=[listening])


def _names(host):
    """The host names that requests may use: for 0.0.0.0 and ::, all names of this machine."""
    if host not in ("0.0.0.0", "::"):
        return (host,)
    names = {socket.gethostname(), socket.getfqdn()}
    with contextlib.suppress(OSError):
        names |= {address[4][0] for address in socket.getaddrinfo(socket.gethostname(), None)}
    return (*names, host)
