"""An HTTP server on loopback that misbehaves on purpose and records its requests."""

import hashlib
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = b"<!DOCTYPE html><html><body>Please log in.</body></html>"


@dataclass
class Request:
    """A request, and the number of body bytes that were sent for it."""

    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0


class Handler(BaseHTTPRequestHandler):
    """Answers a request by the behaviour of its path."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.close_connection = True
        self.request_seen = Request(self.command, self.path, {key.lower(): self.headers[key] for key in self.headers})
        self.server.requests.append(self.request_seen)
        behaviour = self.server.behaviours.get(self.path.partition("?")[0], status(404))
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has closed the connection
            behaviour(self)

    do_HEAD = do_GET

    def head(self, code: int, length: int | None = None, **headers: str) -> None:
        """Send the status and the headers (`Content_Range` becomes Content-Range)."""
        self.send_response(code)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()

    def body(self, content: bytes) -> None:
        """Send bytes of the body and count them."""
        if self.command != "HEAD":
            self.wfile.write(content)
            self.wfile.flush()
            self.request_seen.sent += len(content)

    def start(self) -> int:
        """The offset of the first byte that the request asks for."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(asked[1]) if asked else 0

    def log_message(self, *arguments: object) -> None:
        pass


Behaviour = Callable[[Handler], None]


class Server(ThreadingHTTPServer):
    """A server with a behaviour for each path; other paths are 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours: dict[str, Behaviour] = {}
        self.requests: list[Request] = []
        self.scheme = "http"

    def serve(self, path: str, behaviour: Behaviour) -> str:
        """Set the behaviour of a path.

        Returns: the address of the path.
        """
        self.behaviours[path] = behaviour
        return self.address + path

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def asked(self, path: str, method: str = "GET") -> list[Request]:
        """The requests for a path, in order."""
        return [request for request in self.requests if (request.path, request.method) == (path, method)]

    def sent(self, path: str) -> int:
        """All body bytes sent for a path."""
        return sum(request.sent for request in self.asked(path))

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # expected: clients close connections early

    def __enter__(self) -> "Server":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def with_tls(self, certificate: Path) -> "Server":
        """The same server over https. The file holds the certificate and its key."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https"
        return self


def good(content: bytes, ranges: bool = True, **headers: str) -> Behaviour:
    """The file; without `ranges`, always from its beginning."""

    def answer(handler: Handler) -> None:
        changed = handler.headers.get("If-Range") not in (None, headers.get("ETag"))
        start = handler.start() if ranges and not changed else 0
        if not start:
            handler.head(200, len(content), **headers)
        elif start < len(content):
            handler.head(206, len(content) - start, Content_Range=_range(start, content), **headers)
        else:
            return handler.head(416, 0, Content_Range=f"bytes */{len(content)}")
        handler.body(content[start:])

    return answer


def status(code: int, **headers: str) -> Behaviour:
    """A status without a body, such as an error."""
    return lambda handler: handler.head(code, 0, **headers)


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One behaviour after the other for each request; the last one is repeated."""
    left = list(behaviours)

    def answer(handler: Handler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def cut(content: bytes, after: int, ranges: bool = True, reset: bool = False, **headers: str) -> Behaviour:
    """The whole length is announced, but the connection is cut after `after` bytes of the body."""

    def answer(handler: Handler) -> None:
        start = handler.start() if ranges else 0
        if start:
            handler.head(206, len(content) - start, Content_Range=_range(start, content), **headers)
        else:
            handler.head(200, len(content), **headers)
        handler.body(content[start : start + after])
        if reset and handler.command == "GET":
            time.sleep(0.1)  # let the bytes arrive before the reset discards them
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(handler.connection.detach())

    return answer


def stall(content: bytes, after: int, pause: float) -> Behaviour:
    """`after` bytes of the body, then nothing."""

    def answer(handler: Handler) -> None:
        handler.head(200, len(content))
        handler.body(content[:after])
        time.sleep(pause)

    return answer


def chunked_and_cut(content: bytes) -> Behaviour:
    """A body of unannounced length whose last chunk is missing."""

    def answer(handler: Handler) -> None:
        handler.head(200, Transfer_Encoding="chunked")
        handler.body(b"%x\r\n%b\r\n" % (len(content), content))

    return answer


def chunked(content: bytes) -> Behaviour:
    """A complete body of unannounced length."""

    def answer(handler: Handler) -> None:
        handler.head(200, Transfer_Encoding="chunked")
        handler.body(b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content))

    return answer


def page() -> Behaviour:
    """A login page instead of the file."""
    return good(PAGE, ranges=False, Content_Type="text/html; charset=utf-8")


def redirect(target: str) -> Behaviour:
    """A redirect to another address."""
    return lambda handler: handler.head(302, 0, Location=target)


@dataclass
class Hub:
    """An imitation of the Hugging Face hub: one public repository on a `Server`."""

    server: Server
    repository: str = "tiny/model"
    files: dict[str, bytes] = field(default_factory=dict)

    def path(self, name: str) -> str:
        return f"/{self.repository}/resolve/{COMMIT}/{name}"

    def source(self, name: str) -> str:
        return f"hf://{self.repository}@{COMMIT}/{name}"

    def add(self, name: str, content: bytes, get: Behaviour | None = None, head: Behaviour | None = None) -> str:
        """Add a large file. As at the hub, the response to HEAD has the sha256 of the file.

        Args:
            get: the behaviour for GET; default: the file.
            head: the behaviour for HEAD; default: the headers of the file.

        Returns: its `hf://` source.
        """
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"X_Repo_Commit": COMMIT, "ETag": etag, "X_Linked_Etag": etag, "X_Linked_Size": str(len(content))}
        answer_get, answer_head = get or good(content, **headers), head or good(content, **headers)
        self.server.serve(
            self.path(name),
            lambda handler: (answer_head if handler.command == "HEAD" else answer_get)(handler),
        )
        return self.source(name)

    def lacks(self, name: str) -> None:
        """Answer as the hub does for a file that the repository does not have."""
        self.server.serve(self.path(name), status(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT))


def _range(start: int, content: bytes) -> str:
    return f"bytes {start}-{len(content) - 1}/{len(content)}"
