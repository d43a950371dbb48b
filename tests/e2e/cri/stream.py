#!/usr/bin/python3
"""Speaks to containerd's streaming server, as kubectl exec and port-forward do; standard library only.

    stream.py URL QUERY TEXT EXPECTED

Sends TEXT (with Python's escapes) on channel 0 of a WebSocket and reads until EXPECTED comes, whatever frames it is in.
"""
import socket
import struct
import sys
import urllib.parse

REQUEST = """GET {path} HTTP/1.1
Host: {host}
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==
Sec-WebSocket-Protocol: v4.channel.k8s.io

"""
FINAL_BINARY, MASKED = 0x82, 0x80


def read_until(stream, expected, at_most):
    got = b""
    while expected not in got:
        more = stream.recv(at_most)
        if not more:
            sys.exit(f"closed after {got}")
        got += more


def main():
    url, query, text, expected = sys.argv[1:]
    url = urllib.parse.urlparse(url)
    stream = socket.create_connection((url.hostname, url.port), timeout=10)
    stream.sendall(REQUEST.format(path=url.path + query, host=url.netloc).replace("\n", "\r\n").encode())
    read_until(stream, b"\r\n\r\n", 1)
    data = b"\0" + text.encode().decode("unicode_escape").encode()
    # A mask of zeros leaves the text as it is.
    stream.sendall(struct.pack(">BB4x", FINAL_BINARY, MASKED | len(data)) + data)
    read_until(stream, expected.encode(), 4096)
    print("found")


if __name__ == "__main__":
    main()
