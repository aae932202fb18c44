"""The server that connectconformance tests: the gateway, in front of the suite's own server.

usage: server.py GATEWAY REFERENCE_SERVER

The suite writes a ServerCompatRequest to standard input and expects a ServerCompatResponse on standard output, each behind its length
in four bytes. Their fields are numbered in connectrpc/conformance/v1/server_compat.proto.
"""

import json
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile

PROTOCOL, VERSION, USE_TLS, CLIENT_CERT, LIMIT, CREDENTIALS = 1, 2, 4, 5, 6, 7
HOST, PORT, PEM = 1, 2, 3
HTTP_2 = 2


def varint(number):
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def encode(fields):
    """A message of numbers and bytes, by the numbers of its fields."""
    encoded = b""
    for number, value in fields.items():
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
        else:
            encoded += varint(number << 3 | 2) + varint(len(value)) + value
    return encoded


def decode(encoded):
    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = encoded[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    at, fields = 0, {}
    while at < len(encoded):
        key = number()
        if key & 7 == 0:
            fields[key >> 3] = number()
        else:
            length = number()
            fields[key >> 3] = encoded[at : at + length]
            at += length
    return fields


def receive(stream):
    (length,) = struct.unpack(">I", stream.read(4))
    return decode(stream.read(length))


def send(stream, fields):
    encoded = encode(fields)
    stream.write(struct.pack(">I", len(encoded)) + encoded)
    stream.flush()


def reference(program, asked):
    """Starts the suite's server in clear text; returns it and its address."""
    server = subprocess.Popen([program, "-bind", "127.0.0.1", "-port", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    send(server.stdin, {key: asked[key] for key in (PROTOCOL, VERSION, LIMIT) if key in asked})
    answer = receive(server.stdout)
    return server, f"{answer[HOST].decode()}:{answer[PORT]}"


def gateway(program, asked, address, folder):
    """Starts the gateway in front of a server; returns it and its port."""
    tls = "off"
    if asked.get(USE_TLS):
        credentials = decode(asked[CREDENTIALS])
        (folder / "cert.pem").write_bytes(credentials[1])
        (folder / "key.pem").write_bytes(credentials[2])
        client = ""
        if asked.get(CLIENT_CERT):
            (folder / "client.pem").write_bytes(asked[CLIENT_CERT])
            client = ", client_ca: client.pem, client_auth: required"
        tls = "{ certificates: [{ cert: cert.pem, key: key.pem }]" + client + " }"
    protocol = "http2" if asked.get(VERSION) == HTTP_2 else "http1"
    (folder / "secret").write_text("only so that there is one issuer, whose tokens nobody sends")
    (folder / "foregate.yaml").write_text(
        f"""
environment: development
workers: 2
listen: [{{ address: "127.0.0.1:0", tls: {tls} }}]
admin: {{ address: "127.0.0.1:0" }}
tokens: [{{ issuer: "https://issuer.test", audience: [nobody], algorithms: [HS256], secret_file: secret }}]
upstreams: {{ reference: {{ servers: ["http://{address}"], protocol: {protocol} }} }}
routes: [{{ path: "/{{*rest}}", access: public, upstream: reference, pass_credentials: true, body: {{ limit: 64MiB }} }}]
"""
    )
    command = [program, "run", "--config", str(folder / "foregate.yaml")]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    for line in server.stdout:
        entry = json.loads(line)
        if entry.get("message") == "listening":
            return server, int(entry["listeners"].rsplit(":", 1)[1])
        print(line.decode(), file=sys.stderr, end="")
    sys.exit("the gateway did not start")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asked = receive(sys.stdin.buffer)
    servers = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            server, address = reference(sys.argv[2], asked)
            servers.append(server)
            server, port = gateway(sys.argv[1], asked, address, pathlib.Path(folder))
            servers.append(server)
            answer = {HOST: b"127.0.0.1", PORT: port}
            if asked.get(USE_TLS):
                answer[PEM] = decode(asked[CREDENTIALS])[1]
            send(sys.stdout.buffer, answer)
            # Its log has to go somewhere until the suite ends it.
            for _ in server.stdout:
                pass
        finally:
            for server in servers:
                server.kill()
                server.wait()


main()
