"""`kerascnn serve`: a run answers over HTTP."""

import contextlib
import socket

from kerascnn.commands.terminal import Subject, check_subject, computing
from kerascnn.errors import UsageError


def serve(run: Subject, /, *, host: str = "127.0.0.1", port: int = 8000):
    """Answer over HTTP what images show, with a page to try it, until Ctrl-C.

    POST /predict?top=5 with the bytes of an image file answers its classes as JSON, GET /labels the class names:
    curl --data-binary @photo.jpg http://127.0.0.1:8000/predict

    Parameters
    ----------
    host
        address to listen on; anything but the loopback address lets others in
    port
        port to listen on
    """
    check_subject(run)
    if not 0 < port < 65536:
        raise UsageError(f"--port {port} is not allowed: it must be from 1 to 65535.")
    with computing() as (say, _):
        import uvicorn

        from kerascnn.using.server import service

        application = service(run)
        try:
            listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            raise UsageError(
                f"The server cannot listen at --host {host} --port {port}: {error.strerror or error}. "
                "Type another --port, or leave --host out."
            ) from error
        say(f"http://{host}:{port}  (Ctrl-C stops)")
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn.Config(application, log_level="warning")).run(sockets=[listening])
