"""Acts as systemd for a confined relay: passes it a socket, receives its notices, makes it reload, and stops it.

    supervise.py UNIT ROOT PROGRAM FOLDER   # as for confine.py; FOLDER is in ROOT, and holds configuration files

Prints a line for each check."""

import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
LIMIT_S = 20
WATCHDOG_S = 2
PAIRS = 30
OLD, NEW = "old-key-of-somebody", "new-key-of-somebody"
UNIT, ROOT, PROGRAM, FOLDER = sys.argv[1:]
failed = 0


def report(ok, what, details=""):
    global failed
    failed += not ok
    print(f"{'ok' if ok else 'not ok'} {'empty directory' if ROOT != '/' else 'glibc'}: {what}{'' if ok else f': {details}'}", flush=True)


class Notices:
    """What the relay says to its supervisor, `sd_notify(3)`."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        # As systemd's is: whoever is to tell it something is somebody else.
        path.chmod(0o666)

    def collect(self, seconds=0.0):
        """Everything that comes within so many seconds, by the line."""
        deadline = time.monotonic() + seconds
        lines = []
        while (left := max(deadline - time.monotonic(), 0.0)) or not lines:
            self.socket.settimeout(left or 0.001)
            try:
                lines += self.socket.recv(4096).decode().split("\n")
            except TimeoutError:
                return lines
        return lines

    def wait_for(self, wanted):
        """Those up to the one that is wanted, signs of life left out; empty if it does not come."""
        deadline, lines = time.monotonic() + LIMIT_S, []
        while time.monotonic() < deadline:
            lines += [line for line in self.collect(0.05) if line and line != "WATCHDOG=1"]
            if wanted in lines:
                return lines
        return []


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port, method, path, key=None):
    """Status, text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()


def confined(*arguments):
    return [sys.executable, str(HERE / "confine.py"), UNIT, ROOT, PROGRAM, *arguments]


def join(port, client_type, session):
    stream = socket.create_connection(("127.0.0.1", port))
    stream.settimeout(LIMIT_S)
    stream.sendall(
        f"GET /{client_type}/{session} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Bearer {NEW}\r\n\r\n".encode()
    )
    return stream if stream.recv(12) == b"HTTP/1.1 101" else None


def is_over(stream):
    """Reads to the end; whether the last frame is a close with 1001."""
    received = b"".join(iter(lambda: stream.recv(65536), b""))
    return b"\x03\xe9Relay shutting down" in received


def main():
    folder = pathlib.Path(FOLDER)
    inside = lambda path: "/" + str(path.relative_to(ROOT))
    keys, notify = folder / "keys", folder / "notify"
    notify.unlink(missing_ok=True)
    keys.write_text(f"somebody {OLD}\n")
    keys.chmod(0o644)
    notices = Notices(notify)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port, admin = listener.getsockname()[1], free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "NOTIFY_SOCKET": inside(notify),
        "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000),
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "apptuner-relay.socket",
    }
    # Whoever connects before there is a relay waits for it.
    early = socket.create_connection(("127.0.0.1", port))
    early.settimeout(LIMIT_S)
    early.sendall(b"GET /health HTTP/1.1\r\nHost: relay\r\n\r\n")
    log = tempfile.TemporaryFile("w+")
    relay = subprocess.Popen(
        ["/bin/sh", "-c", 'export LISTEN_PID=$$; exec 3<&0 </dev/null; exec "$@"', "sh"]
        + confined("--listen", "127.0.0.1:1", "--admin", f"127.0.0.1:{admin}", "--api-keys", inside(keys), "--shutdown-grace", "5s"),
        stdin=listener.fileno(),
        stderr=log,
        env=environment,
    )
    try:
        supervise(relay, notices, keys, port, admin, early)
    finally:
        relay.kill()
        relay.wait()
        log.seek(0)
        text = log.read()
    wrong = re.findall(r".*(?:not permitted|WARN|ERROR|panicked).*", text)
    report(not wrong, "nothing in its log was refused", wrong[:3])
    if failed:
        print(text, file=sys.stderr)
    sys.exit(failed > 0)


def supervise(relay, notices, keys, port, admin, early):
    said = notices.wait_for("READY=1")
    report(said == ["READY=1"], "READY=1 comes first", said)
    report(early.recv(12) == b"HTTP/1.1 200", "it answers who had come to the socket before it began")

    signs = [line for line in notices.collect(2 * WATCHDOG_S) if line == "WATCHDOG=1"]
    report(3 <= len(signs) <= 5, f"{len(signs)} WATCHDOG=1 in twice WatchdogSec, with nobody connected")
    os.kill(relay.pid, signal.SIGSTOP)
    notices.collect(0.1)
    signs = notices.collect(WATCHDOG_S)
    report(not signs, "fault found: none from a relay that stands still", signs)
    os.kill(relay.pid, signal.SIGCONT)

    status, text = ask(admin, "GET", "/readyz")
    report((status, text) == (200, "ready\n"), "/readyz of the operator's listener", (status, text))
    status, text = ask(admin, "GET", "/metrics")
    fds = re.search(r"^process_open_fds (\d+)$", text, re.M)
    report(status == 200 and fds and int(fds[1]) >= 5, "/metrics tells the number of open descriptors", (status, text[-500:]))
    status, text = ask(admin, "GET", "/")
    report(status == 200 and "<html" in text, "the status page", status)

    answers = [ask(port, "POST", "/sessions", key)[0] for key in (OLD, NEW, None)]
    report(answers == [201, 401, 401], "it takes the key in its file, and no other", answers)
    keys.write_text(f"somebody {NEW}\n")
    report(ask(port, "POST", "/sessions", NEW)[0] == 401, "a changed file changes nothing by itself")
    notices.collect(0.1)
    os.kill(relay.pid, signal.SIGHUP)
    said = notices.wait_for("READY=1")
    in_order = [line.partition("=")[0] for line in said]
    report(in_order == ["RELOADING", "MONOTONIC_USEC", "READY"], "SIGHUP: RELOADING=1, its time, READY=1", said)
    answers = [ask(port, "POST", "/sessions", key)[0] for key in (OLD, NEW)]
    report(answers == [401, 201], "and then it takes the new key", answers)

    # The same confinement, for whoever has it checked from within.
    health = lambda url: subprocess.run(confined("health", url), capture_output=True, timeout=LIMIT_S).returncode
    report(health(f"http://127.0.0.1:{port}/health") == 0, "health exits with 0")
    report(health(f"http://127.0.0.1:{admin}/readyz") == 0, "health of /readyz exits with 0")

    clients = [join(port, client_type, f"s{i}") for i in range(PAIRS) for client_type in ("desktop", "mobile")]
    report(all(clients), f"{PAIRS} pairs are served")
    notices.collect(0.1)
    relay.terminate()
    said = notices.wait_for("STOPPING=1")
    report(said == ["STOPPING=1"], "SIGTERM: STOPPING=1", said)
    answer = ask(admin, "GET", "/readyz")
    report(answer == (503, "draining\n"), "/readyz says so while the pairs are closed", answer)
    report(health(f"http://127.0.0.1:{admin}/readyz") == 1, "health of /readyz exits with 1")
    report(all([is_over(client) for client in clients]), "each client is closed with 1001")
    for client in clients:
        client.close()
    try:
        code = relay.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        code = "none"
    report(code == 0, "it ends with exit code 0", code)
    # The socket is still there, as systemd's would be, but nobody answers.
    report(health(f"http://127.0.0.1:{admin}/readyz") == 1, "health exits with 1 when there is no relay")


if __name__ == "__main__":
    main()
