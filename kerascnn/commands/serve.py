"""`kerascnn serve`: a run answers over HTTP."""

from kerascnn import runs
from kerascnn.commands.terminal import RunName, computing
from kerascnn.errors import UsageError


def serve(run: RunName, /, *, host: str = "127.0.0.1", port: int = 8000):
    """Answer over HTTP what images show, with a page to try it, until Ctrl-C.

    Parameters
    ----------
    host
        address to listen on; anything but the loopback address lets others in
    port
        port to listen on
    """
    runs.find(run)
    if not 0 < port < 65536:
        raise UsageError(f"--port {port} is not allowed: it must be from 1 to 65535.")
    with computing() as (say, _):
        import uvicorn

        from kerascnn.server import service

        application = service(run)
        say(f"http://{host}:{port}  (Ctrl-C stops)")
        uvicorn.run(application, host=host, port=port, log_level="warning")
