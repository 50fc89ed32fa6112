"""moto's S3 server on a port of this machine, with one bucket `bucket`: python -m tests.records.s3_server PORT.

A lock lets one request in at a time, so that a conditional put is decided atomically, as S3 decides it.
"""

import logging
import sys
import urllib.request
from threading import Lock, Thread

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


def main(port: int) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application, lock = DomainDispatcherApplication(create_backend_app), Lock()

    def one_by_one(environ, start_response):
        if not environ.get("HTTP_AUTHORIZATION", "").startswith("AWS"):  # a client of Google's protocol
            environ["HTTP_AUTHORIZATION"] = SIGNED
            if environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH") == "0":
                environ["HTTP_IF_NONE_MATCH"] = "*"
        with lock:
            return application(environ, start_response)

    server = make_server("127.0.0.1", port, one_by_one, threaded=True)
    serving = Thread(target=server.serve_forever)
    serving.start()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
    urllib.request.urlopen(request).close()
    print("ready", flush=True)
    serving.join()  # from Python 3.12 on nothing starts a thread once the main one has ended


if __name__ == "__main__":
    main(int(sys.argv[1]))
