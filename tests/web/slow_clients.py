"""200 clients that take their time: half a head, half a body, an answer that nobody reads. Others must not notice, and pictures come."""

import os
import socket
import time
import urllib.request

from node import Daemon

CLIENTS = int(os.environ.get("EASELD_CLIENTS", "200"))
ROUNDS = 60
# A request of an honest client, seconds: a connection that has to wait for a slow one would take `client_timeout_s`.
PATIENCE_S = 2.0


def connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.setblocking(False)
    return client


def begin(kind: int, port: int):
    """Connects and sends the beginning; what to send byte by byte from then on."""
    client = connect(port)
    host = f"Host: 127.0.0.1:{port}\r\n".encode()
    if kind == 0:
        client.send(b"GET /api/jobs HTTP/1.1\r\n" + host)
        return client, b"X-Slow: " + b"y" * 1000
    if kind == 1:
        client.send(b"POST /api/generate HTTP/1.1\r\n" + host + b"Content-Type: text/plain\r\nContent-Length: 1000\r\n\r\n")
        return client, b"z" * 1000
    if kind == 2:
        # Asks for much and reads nothing.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.send((b"GET /api/info HTTP/1.1\r\n" + host + b"\r\n") * 200)
        return client, b""
    return client, b""  # says nothing at all


def main() -> None:
    daemon = Daemon(EASELD__HTTP__CLIENT_TIMEOUT_S="5", EASELD__HTTP__MAX_CONNECTIONS="256")
    daemon.paint("a fox", preset="fast")
    slow = [begin(n % 4, daemon.port) for n in range(CLIENTS)]
    cut, took, painted = 0, [], 0
    job = daemon.json("/api/generate", {"prompt": "an owl", "preset": "fast"})["id"]
    for turn in range(ROUNDS):
        for at, (client, rest) in enumerate(slow):
            try:
                if rest:
                    client.send(rest[turn : turn + 1])
                else:
                    # Only whether it is still there.
                    client.recv(1, socket.MSG_PEEK) if at % 4 == 3 else client.send(b"")
            except BlockingIOError:
                continue
            except OSError:
                client.close()
                cut += 1
                slow[at] = begin(at % 4, daemon.port)
        began = time.monotonic()
        with urllib.request.urlopen(daemon.url + "/healthz", timeout=30) as answer:
            assert answer.status == 200
        took.append(time.monotonic() - began)
        if daemon.json(f"/api/jobs/{job}")["status"] == "succeeded":
            painted += 1
            job = daemon.json("/api/generate", {"prompt": "an owl", "preset": "fast"})["id"]
        time.sleep(0.25)
    for client, _ in slow:
        client.close()
    took.sort()
    memory = next(line for line in open(f"/proc/{daemon.process.pid}/status") if line.startswith("VmRSS")).split()[1]
    print(f"{CLIENTS} slow clients for {ROUNDS} turns: {cut} were cut and came again; {painted} pictures meanwhile; /healthz in "
          f"{1000 * took[len(took) // 2]:.1f} ms (median), {1000 * took[-1]:.1f} ms (slowest); resident {int(memory) // 1024} MiB")
    assert took[-1] < PATIENCE_S and cut > 0 and painted > 0
    daemon.close()


if __name__ == "__main__":
    main()
