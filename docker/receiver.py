"""An example of a webhook receiver: prints each alert that Alertmanager sends, a line each."""

import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

LARGEST_BYTES = 1 << 20


class Receiver(BaseHTTPRequestHandler):
    timeout = 10

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        try:
            body = self.rfile.read(int(size)) if size.isdecimal() and int(size) <= LARGEST_BYTES else b""
            for alert in json.loads(body)["alerts"]:
                labels, annotations = alert["labels"], alert["annotations"]
                about = labels.get("site") or labels.get("instance", "")
                print(alert["status"], labels["alertname"], about, annotations.get("summary", ""), flush=True)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Only alerts are printed."""


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    with HTTPServer((host, int(port)), Receiver) as server:
        print(f"listening on {host}:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
