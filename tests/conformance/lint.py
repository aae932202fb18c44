"""What httplint says of exchanges: one JSON object a line in, one a line out for each exchange and each note."""

import json
import sys

from httplint import HttpRequestLinter, HttpResponseLinter


def encoded(fields):
    return [(name.encode(), value.encode()) for name, value in fields]


def lint(exchange):
    request = HttpRequestLinter()
    request.process_request_topline(exchange["method"].encode(), exchange["url"].encode(), b"HTTP/1.1")
    request.process_headers(encoded([("host", "api.test"), *exchange["asked"]]))
    request.finish_content(True)
    response = HttpResponseLinter()
    response.request = request
    response.is_head_response = exchange["method"] == "HEAD"
    response.base_uri = exchange["url"]
    response.process_response_topline(b"HTTP/1.1", str(exchange["status"]).encode())
    response.process_headers(encoded(exchange["fields"]))
    response.feed_content(exchange["body"].encode())
    response.finish_content(True)
    return response.notes


for line in sys.stdin:
    exchange = json.loads(line)
    print(json.dumps({"read": True}))
    for note in lint(exchange):
        told = {"status": exchange["status"], "method": exchange["method"], "url": exchange["url"]}
        told |= {"level": note.level.value, "note": type(note).__name__, "subject": str(note.subject), "summary": str(note.summary)}
        print(json.dumps(told))
