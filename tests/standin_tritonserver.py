"""What the container's first process asks of tritonserver: an ensemble, its step, and a model by itself.

It logs its end.
"""

import http.server
import json
import os
import signal
import sys
import threading

options = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
models = {
    "pets": {"platform": "ensemble", "ensemble_scheduling": {"step": [{"model_name": "decode"}]}},
    "decode": {"platform": "python"},
    "scores": {"platform": "onnxruntime_onnx"},
}
log = os.open(options["--stand-in-log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def unload(name: str) -> None:
    os.write(log, f"unloaded {name}\n".encode())
    print(f"I1127 successfully unloaded '{name}' version 1", flush=True)


def terminated(*_: object) -> None:
    os.write(log, b"terminated\n")
    os._exit(0)


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.split("/")
        found: object = None
        if self.path.endswith("/index"):
            found = [{"name": name, "version": "1", "state": "READY"} for name in models]
        elif self.path.endswith("/unload"):
            threading.Timer(0.05, unload, [parts[-2]]).start()
        elif self.path.startswith("/v2/models/"):
            found = models[parts[3]]
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing."""


signal.signal(signal.SIGTERM, terminated)
http.server.ThreadingHTTPServer(("127.0.0.1", int(options["--http-port"])), Handler).serve_forever()
