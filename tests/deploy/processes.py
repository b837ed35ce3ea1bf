"""The relays and the balancers that the tests start, each in a folder of its own under the temporary directory."""

import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
RELAY = os.environ["RELAY"]
START_S = 10
# What the configurations say, in the order of the relays.
ADDRESSES = ["192.0.2.11:8787", "192.0.2.12:8787", "192.0.2.13:8787"]

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


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
    def __init__(self, folder, name, options=()):
        self.name, self.options, self.port = name, list(options), free_port()
        self.log = folder / f"{name}.log"
        self.log.touch()
        self.read = 0
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [RELAY, "--listen", f"127.0.0.1:{self.port}", "--trust-proxy", "127.0.0.1/32", *self.options],
            stderr=self.log.open("a"),
            env={"RUST_LOG": "info,apptuner_relay::messages=off"},
        )
        wait_until(f"start of {self.name}", self.is_up)

    def is_up(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def health(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health") as answer:
            return json.load(answer)

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(30)

    def new_joins(self):
        """(client type, session) of each join since the last call."""
        with self.log.open() as log:
            log.seek(self.read)
            lines = log.read()
            self.read = log.tell()
        return re.findall(r"(Desktop|Mobile) connected to session (\S+)", lines)


class Cluster:
    """Relays, and a balancer in front of them with the configuration that operators are given."""

    def __init__(self, balancer, options=(), edit=lambda config: config):
        self.balancer, self.edit = balancer, edit
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"cluster-{balancer}-"))
        self.folder.chmod(0o755)
        self.port, self.other_port = free_port(), free_port()
        self.relays = [Relay(self.folder, f"relay{i}", options) for i in (1, 2, 3)]
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
        changes |= {address: f"127.0.0.1:{relay.port}" for address, relay in zip(ADDRESSES, self.relays)}
        for old, new in changes.items():
            if old not in text:
                raise AssertionError(f"{file} says nothing of {old!r}")
            text = text.replace(old, new)
        for number, relay in list(enumerate(self.relays, 1))[3:]:
            assert self.balancer == "haproxy"
            text += f"    server {relay.name} 127.0.0.1:{relay.port} id {number}\n"
        self.config = self.folder / file
        self.config.write_text(text)

    def serves(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2).status == 200
        except OSError:
            return False

    def workers(self):
        """The processes of the balancer that carry connections, the newest last."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in pathlib.Path(path).read_text().split()] or [self.process.pid]

    def add_relay(self):
        """Adds a relay to HAProxy's configuration and has it reloaded."""
        self.relays.append(Relay(self.folder, f"relay{len(self.relays) + 1}", self.relays[0].options))
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

    def new_joins(self):
        """session -> the set of relays that its clients joined since the last call."""
        places = {}
        for relay in self.relays:
            for _, session in relay.new_joins():
                places.setdefault(session, set()).add(relay.name)
        return places

    def end(self):
        self.process.terminate()
        for pid in [*self.workers(), self.process.pid]:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        self.process.wait(30)
        for relay in self.relays:
            if relay.process.poll() is None:
                relay.end(signal.SIGKILL)
