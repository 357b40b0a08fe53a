"""The HTTP server of the services: uvicorn, on httptools and uvloop where they are installed.

httptools reads a head of any length into memory; here its length is limited, as by h11, which serves without httptools.
"""

import uvicorn

LARGEST_HEAD = 2**18  # bytes of a request that belong to no body: its head, the sizes of its chunks, what follows them
SECONDS = 5  # that a shutdown waits for answers that are being computed


def server(application, **options):
    """A uvicorn.Server of an ASGI application; options are those of uvicorn.Config."""
    options = {"timeout_graceful_shutdown": SECONDS, **options}
    return uvicorn.Server(uvicorn.Config(application, http=_protocol(), ws="none", **options))


def _protocol():
    """The class that reads requests, or the name of uvicorn's own choice."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return "h11"

    class Limited(HttpToolsProtocol):
        head = 0  # bytes of the current request that belong to no body

        def on_message_begin(self):
            self.head = 0
            super().on_message_begin()

        def on_body(self, body):
            self.head -= len(body)
            super().on_body(body)

        def data_received(self, data):
            self.head += len(data)
            super().data_received(data)
            if self.head > LARGEST_HEAD and not self.transport.is_closing():
                self.send_400_response(f"The head of a request has at most {LARGEST_HEAD:,} bytes.")

    return Limited
