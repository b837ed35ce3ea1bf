"""Starts relays and balancers for the tests, each in its own folder in the temporary directory."""

import json
import os
import pathlib
import random
import re
import resource
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
RELAY = os.environ["RELAY"]
START_S = 10
TOKEN = "0123456789abcdef"

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port(used=set()):
    """A port free at all addresses, no port twice; below those that the kernel gives to clients, of which there are many."""
    while True:
        port = random.SystemRandom().randrange(12000, 30000)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("", port))
            except OSError:
                continue
        if port not in used:
            used.add(port)
            return port


def wait_until(what, condition, limit_s=START_S):
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {limit_s} s")
        time.sleep(0.05)


def cpu_s(pid):
    """Processor time of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


class Relay:
    """Relay N is at 127.0.0.1N, where the configurations say 192.0.2.1N; all use the same two ports."""

    def __init__(self, folder, number, ports, options=()):
        self.name, self.options, self.host, self.ports = f"relay{number}", list(options), f"127.0.0.1{number}", ports
        self.log = folder / f"{self.name}.log"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [RELAY, "--listen", f"{self.host}:{self.ports[0]}", "--admin", f"{self.host}:{self.ports[1]}",
             "--trust-proxy", "127.0.0.1/32", *self.options],
            stderr=self.log.open("a"),
            env={"RUST_LOG": "info,apptuner_relay::messages=off", "APPTUNER_RELAY_ADMIN_TOKEN": TOKEN},
        )
        wait_until(f"start of {self.name}", self.is_up)

    def is_up(self):
        try:
            socket.create_connection((self.host, self.ports[0]), 1).close()
            return True
        except OSError:
            return False

    def ask(self, path, token=None):
        """Status and body of an answer to the operator, or (0, "") if there is none."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        question = urllib.request.Request(f"http://{self.host}:{self.ports[1]}{path}", headers=headers)
        try:
            with urllib.request.urlopen(question, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()
        except OSError:
            return 0, ""

    def sessions(self):
        """How the IDs of those begin that have a client, and how many."""
        found, next = {}, 0
        while next is not None and self.process.poll() is None:
            status, body = self.ask(f"/sessions?limit=500&from={next}", TOKEN)
            if status != 200:
                break
            answer = json.loads(body)
            found |= {row["id"]: row["desktop"] + row["mobile"] for row in answer["page"]}
            next = answer["next"]
        return {session: clients for session, clients in found.items() if clients}

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(30)


class Cluster:
    """Relays, and a balancer in front of them with the configuration that operators are given."""

    def __init__(self, balancer, options=(), edit=lambda config: config, first=()):
        """`options` are those of all relays, `first` more of the first one; `edit` changes the configuration."""
        self.balancer, self.edit = balancer, edit
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"cluster-{balancer}-"))
        self.folder.chmod(0o755)
        self.port, self.other_port, *self.ports = [free_port() for _ in range(4)]
        self.relays = [Relay(self.folder, i, self.ports, [*options, *(first if i == 1 else ())]) for i in (1, 2, 3)]
        self.configure()
        self.process = subprocess.Popen(
            {
                "haproxy": ["haproxy", "-W", "-f", self.config],
                "nginx": ["nginx", "-p", self.folder, "-c", self.config, "-g", "daemon off;"],
                "caddy": ["caddy", "run", "--adapter", "caddyfile", "--config", self.config],
            }[balancer],
            stdout=(self.folder / "balancer.log").open("w"),
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
        )
        try:
            wait_until(f"start of {balancer}", self.serves)
        except AssertionError:
            self.end()
            raise AssertionError((self.folder / "balancer.log").read_text()) from None

    def configure(self):
        file = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf", "caddy": "Caddyfile"}[self.balancer]
        text = self.edit((HERE / file).read_text())
        changes = {
            "haproxy": {
                # What the file limit of this machine allows.
                "maxconn 20000": f"maxconn {min(20000, hard // 2 - 100)}",
                "bind :80\n": f"bind 127.0.0.1:{self.port}\n",
                "127.0.0.1:10000": f"127.0.0.1:{self.other_port}",
                "/run/haproxy": str(self.folder),
            },
            "nginx": {
                "worker_rlimit_nofile 65536": f"worker_rlimit_nofile {min(65536, hard)}",
                "listen 80;": f"listen 127.0.0.1:{self.port};",
                "/run/nginx": f"{self.folder}/nginx",
                "/var/log/nginx": str(self.folder),
            },
            "caddy": {"http://:80 {": f"http://:{self.port} {{", "localhost:2019": f"127.0.0.1:{self.other_port}"},
        }[self.balancer]
        changes |= {f"192.0.2.1{number}:8787": f"127.0.0.1{number}:{self.ports[0]}" for number in (1, 2, 3)}
        if self.balancer != "nginx":
            changes["port 9787"] = f"port {self.ports[1]}"
        for old, new in changes.items():
            if old not in text:
                raise AssertionError(f"{file} says nothing of {old!r}")
            text = text.replace(old, new)
        for number, relay in list(enumerate(self.relays, 1))[3:]:
            assert self.balancer == "haproxy"
            text += f"    server {relay.name} {relay.host}:{relay.ports[0]} id {number}\n"
        self.config = self.folder / file
        self.config.write_text(text)

    def serves(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2).status == 200
        except OSError:
            return False

    def workers(self):
        """The processes of the balancer that carry connections, the newest last."""
        path = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()] or [self.process.pid]

    def add_relay(self):
        """Adds a relay to HAProxy's configuration and has it reloaded."""
        self.relays.append(Relay(self.folder, len(self.relays) + 1, self.ports))
        self.configure()
        self.process.send_signal(signal.SIGUSR2)
        name = self.relays[-1].name
        wait_until("reload", lambda: any(row[1] == name and row[2] == "UP" for row in self.servers()))

    def ask(self, command):
        """Speaks to HAProxy's runtime API."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(self.folder / "admin.sock"))
            stream.sendall(command.encode() + b"\n")
            stream.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: stream.recv(65536), b"")).decode()

    def servers(self):
        """(backend, server, state) of each server of HAProxy."""
        try:
            rows = [line.split(",") for line in self.ask("show stat").splitlines()]
        except OSError:
            return []
        return [(row[0], row[1], row[17]) for row in rows if len(row) > 17]

    def state(self, name):
        """What HAProxy makes of a relay: UP, NOLB, DOWN …, without how far it is on the way to another."""
        states = {row[1]: row[2].split()[0] for row in self.servers() if row[0] == "relays"}
        return states.get(name, "unknown")

    def places(self):
        """session -> the relays that have clients of it, and how many"""
        places = {}
        for relay in self.relays:
            for session, clients in relay.sessions().items():
                places.setdefault(session, {})[relay.name] = clients
        return places

    def end(self):
        for pid in [*self.workers(), self.process.pid] if self.process.poll() is None else []:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        self.process.wait(30)
        for relay in self.relays:
            if relay.process.poll() is None:
                relay.end(signal.SIGKILL)
