"""Which requests a service accepts: those to its own host names, from its own pages, and with its token if it has one.

Otherwise a page elsewhere could make a browser call the service by a name that points to this machine (DNS rebinding).
"""

import hmac
from urllib.parse import parse_qs, urlsplit

from starlette.responses import JSONResponse

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """An ASGI application in front of another.

    Args:
        application: the other one.
        hosts: names by which it may be called, besides the loopback ones and the address that a request comes to.
        token: what a request must bring as "Authorization: Bearer TOKEN", as ?token= or in a cookie; None: nothing.
    """

    def __init__(self, application, hosts=(), token=None):
        hosts = {host.lower() for host in (*LOOPBACK, *hosts)}
        self.application, self.hosts, self.token = application, hosts, token

    async def __call__(self, scope, receive, send):
        reason = self._refusal(scope) if scope["type"] == "http" else None
        if reason is not None:
            await JSONResponse({"error": reason[0]}, reason[1])(scope, receive, send)
            return
        await self.application(scope, receive, self._remembering(scope, send))

    def _refusal(self, scope):
        """(sentence, status) where a request is not allowed, else None."""
        headers = {name.decode("latin1").lower(): value.decode("latin1") for name, value in scope["headers"]}
        called = _host(f"//{headers.get('host', '')}")
        reached = (scope.get("server") or ("",))[0]  # the address of this machine that the request came to
        if called not in self.hosts and called != reached:
            return f"This service does not go by the name {called!r}.", 421
        origin = headers.get("origin")
        if origin is not None and origin.partition("//")[2].lower() != headers.get("host", "").lower():
            return "Pages from elsewhere may not ask this service.", 403
        if self.token is not None and not self._brings_token(scope, headers):
            return "This service needs its token: ?token=... or the header Authorization: Bearer ...", 401
        return None

    def _brings_token(self, scope, headers):
        cookies = dict(part.strip().partition("=")[::2] for part in headers.get("cookie", "").split(";"))
        brought = [
            headers.get("authorization", "").removeprefix("Bearer "),
            parse_qs(scope["query_string"].decode("latin1")).get("token", [""])[0],
            cookies.get(_cookie(scope), ""),
        ]
        return any(hmac.compare_digest(each.encode(), self.token.encode()) for each in brought)

    def _remembering(self, scope, send):
        """`send`, which has a browser that came with ?token= keep it in a cookie for the page's own requests."""
        if self.token is None or scope["type"] != "http" or b"token=" not in scope["query_string"]:
            return send

        async def sending(message):
            if message["type"] == "http.response.start":
                cookie = f"{_cookie(scope)}={self.token}; HttpOnly; SameSite=Strict; Path=/"
                message = {**message, "headers": [*message["headers"], (b"set-cookie", cookie.encode())]}
            await send(message)

        return sending


def _cookie(scope):
    """The name of the cookie: browsers give cookies to all ports of a machine, on which other services may run."""
    return f"kerascnn-token-{(scope.get('server') or ('', 0))[1]}"


def _host(address):
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
