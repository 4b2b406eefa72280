"""A server to be started and ended: ``fake_server.py PORT [HOW…]``; healthy by default.

HOW: ``fails`` (says why and ends), ``hangs`` (never listens), ``stays`` (ignores SIGTERM),
``forks`` (starts a child in a session of its own), ``pids=FILE`` (writes its processes' ids),
``model=NAME``.
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        document = {"data": [{"id": self.server.model}]} if "models" in self.path else {}
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def tell(word):
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main(port, how):
    if "fails" in how:
        sys.exit("no such model\nValueError: this is why")
    if "stays" in how:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ids = [os.getpid()]
    if "forks" in how:
        ids.append(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
    for word in how:
        if word.startswith("pids="):
            path = Path(word.removeprefix("pids="))
            part = path.with_suffix(".part")
            part.write_text(" ".join(map(str, ids)))
            part.rename(path)
    tell("loading")
    if "hangs" in how:
        time.sleep(600)
    server = HTTPServer(("127.0.0.1", port), Answer)
    server.model = next((word[6:] for word in how if word.startswith("model=")), "fake")
    tell("serving")
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
