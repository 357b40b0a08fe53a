"""The chief as a small HTTP service: JSON in, JSON out, one decision at a time."""

import hmac
import time

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from kerascnn import __version__
from kerascnn.errors import UsageError
from tuning.tables import run_folder

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


def service(chief, folder, *, host="127.0.0.1", token=""):
    """The Starlette application of a Chief.

    Every request is answered on the event loop, so decisions never run beside each other. A request needs the header
    X-Kerascnn-Version, which no foreign web page can send, and the token where there is one.

    Args:
        chief: a Chief.
        folder: the search's folder.
        host: the address that is listened on.
        token: what workers must show, or "".
    Returns:
        the application; its `state.working` is the set of the workers that asked and were not yet told to end.
    """
    working = set()

    async def ask(message):
        answer = chief.ask(message["worker"], time.time())
        (working.discard if answer["do"] == "done" else working.add)(message["worker"])
        if answer["do"] != "trial":
            return answer
        parent = answer["parent"]
        return {
            **answer,
            "folder": str(run_folder(folder, answer["trial"])),
            "hypermodel": getattr(chief.space, "path", None),
            "parent": None if parent is None else str(run_folder(folder, parent)),
            "beat_seconds": chief.lease_seconds / 4,
        }

    async def report(message):
        metrics = {name: float(value) for name, value in message["metrics"].items()}
        answer = chief.report(message["trial"], message["lease"], message["epoch"], metrics, time.time())
        return {"answer": answer}

    async def beat(message):
        return {"answer": chief.beat(message["trial"], message["lease"], time.time())}

    async def release(message):
        chief.release(message["trial"], message["lease"], time.time(), died=message.get("died", ""))
        return {}

    async def finish(message):
        chief.finish(
            message["trial"], message["lease"], message["status"], message["reason"], message["seconds"], time.time()
        )
        return {}

    actions = (ask, report, beat, release, finish)
    application = Starlette(
        routes=[Route(f"/{action.__name__}", _guarded(action, token), methods=["POST"]) for action in actions],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK)] if host in LOOPBACK else [],
    )
    application.state.working = working
    return application


def _guarded(action, token):
    """The endpoint of an action: it checks the version and the token, and turns errors into answers."""

    async def answer(request):
        theirs = request.headers.get("X-Kerascnn-Version")
        if theirs != __version__:
            return PlainTextResponse(f"it is kerascnn {__version__} and this worker is {theirs}", 409)
        theirs = request.headers.get("Authorization", "")
        if token and not hmac.compare_digest(theirs.encode(), f"Bearer {token}".encode()):
            return PlainTextResponse("the token is wrong. Give the chief's: token=SECRET", 401)
        try:
            return JSONResponse(await action(await request.json()))
        except (UsageError, KeyError, TypeError, ValueError) as error:
            return PlainTextResponse(f"{type(error).__name__}: {error}", 400)

    return answer
