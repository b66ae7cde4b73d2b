"""An empty cache, and a server on loopback for what would be downloaded."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from treering.tasks.text import locate


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no TREERING_DATA of the machine's own."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(locate, "cache_folder", lambda: folder)
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    return folder


class Server:
    """Serves files by name; `spoil` changes what is sent and may cut it short."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.asked: list[str] = []
        self.spoil = lambda body: (body, len(body))
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                name = self.path.removeprefix("/")
                if name not in files:
                    self.send_error(404)
                    return
                body, announced = server.spoil(files[name])
                self.send_response(200)
                self.send_header("Content-Length", str(announced))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent; the default writes to stderr, which the tests look at."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/"


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Server]:
    """A server while the block runs."""
    served = Server(files)
    thread = Thread(target=served.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        served.http.shutdown()
        served.http.server_close()
        thread.join()
