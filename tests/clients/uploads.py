"""Uploads that are refused, by the clients of Python: each prints one line of JSON per length.

Environment: GATEWAY (URL), ROUNDS, LENGTHS (bytes, by commas), CA (a file).
"""

import asyncio
import json
import os
import ssl

import aiohttp
import httpx
import requests

GATEWAY = os.environ["GATEWAY"]
ROUNDS = int(os.environ["ROUNDS"])
LENGTHS = [int(length) for length in os.environ["LENGTHS"].split(",")]
CA = os.environ["CA"]
STEPS = [
    ("POST", "/me", 401),
    ("GET", "/public/x", 200),
    ("POST", "/tiny", 413),
    ("GET", "/public/x", 200),
]


def tell(client, length, failures):
    print(json.dumps({"client": client, "length": length, "failures": failures}), flush=True)


def blocking(client, send):
    for length in LENGTHS:
        failures = []
        for _ in range(ROUNDS):
            for method, path, expected in STEPS:
                body = b"x" * length if method == "POST" else None
                try:
                    status = send(method, GATEWAY + path, body)
                except Exception as error:
                    status = repr(error)
                if status != expected:
                    failures.append(f"{method} {path}: {status}")
        tell(client, length, failures)


async def asynchronous():
    context = ssl.create_default_context(cafile=CA)
    connector = aiohttp.TCPConnector(ssl=context, limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        for length in LENGTHS:
            failures = []
            for _ in range(ROUNDS):
                for method, path, expected in STEPS:
                    body = b"x" * length if method == "POST" else None
                    try:
                        async with session.request(method, GATEWAY + path, data=body) as answer:
                            await answer.read()
                            status = answer.status
                    except Exception as error:
                        status = repr(error)
                    if status != expected:
                        failures.append(f"{method} {path}: {status}")
            tell("aiohttp", length, failures)


session = requests.Session()
session.trust_env = False
session.verify = CA
blocking("requests", lambda method, url, body: session.request(method, url, data=body).status_code)
for name, http2 in [("httpx", False), ("httpx-h2", True)]:
    with httpx.Client(http2=http2, verify=ssl.create_default_context(cafile=CA), trust_env=False) as client:
        blocking(name, lambda method, url, body: client.request(method, url, content=body).status_code)
asyncio.run(asynchronous())
