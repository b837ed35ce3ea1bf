"""Runs a program with the unit's confinement: its system calls, no capabilities, as nobody, in an empty root.

    confine.py UNIT ROOT PROGRAM [ARGUMENT...]   # ROOT is / for a program that needs libraries; the unit's Environment=
                                                 # and a supervisor's variables are passed on
    confine.py UNIT ROOT --probe                 # tries calls that the filters must stop, and prints the results
    confine.py UNIT ROOT --probe-unfiltered      # the same without the filters

Needs root, python3-seccomp and systemd-analyze. The namespaces of the unit are left out: they need a running systemd."""

import ctypes
import errno
import mmap
import os
import resource
import subprocess
import sys

import seccomp

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
NOBODY = 65534
SUPERVISOR = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}


def settings(unit, name):
    lines = (line.strip().partition("=") for line in open(unit) if not line.startswith("#"))
    return " ".join(value for key, _, value in lines if key == name).split()


def expand(names):
    """The calls in these groups and names; systemd always adds @default."""
    calls, left = set(), ["@default", *names]
    while left:
        name = left.pop()
        if name.startswith("@"):
            listed = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True)
            left += [word for line in listed.stdout.splitlines()[1:] if (word := line.strip()) and word[0] != "#"]
        else:
            calls.add(name)
    return calls


def filters(unit):
    """Two filters, of which the stricter answer counts: the list of calls, and the unit's rules for their arguments."""
    calls = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    known = 0
    for call in sorted(expand(settings(unit, "SystemCallFilter"))):
        try:
            calls.add_rule(seccomp.ALLOW, call)
            known += 1
        except (RuntimeError, OSError):
            pass  # Of another architecture.
    arguments = seccomp.SyscallFilter(seccomp.ALLOW)
    allowed = {FAMILIES[family] for family in settings(unit, "RestrictAddressFamilies")}
    refused = seccomp.ERRNO(errno.EAFNOSUPPORT)
    for family in set(range(max(allowed))) - allowed:
        arguments.add_rule(refused, "socket", seccomp.Arg(0, seccomp.EQ, family))
    arguments.add_rule(refused, "socket", seccomp.Arg(0, seccomp.GT, max(allowed)))
    if settings(unit, "MemoryDenyWriteExecute") == ["yes"]:
        both = mmap.PROT_WRITE | mmap.PROT_EXEC
        arguments.add_rule(seccomp.ERRNO(errno.EPERM), "mmap", seccomp.Arg(2, seccomp.MASKED_EQ, both, both))
        for call in ("mprotect", "pkey_mprotect"):
            executable = seccomp.Arg(2, seccomp.MASKED_EQ, mmap.PROT_EXEC, mmap.PROT_EXEC)
            arguments.add_rule(seccomp.ERRNO(errno.EPERM), call, executable)
    return known, [arguments, calls]


def confine(unit, root, is_filtered):
    libc = ctypes.CDLL(None, use_errno=True)
    known, both = filters(unit)
    print(f"confine: {known} system calls are allowed", file=sys.stderr, flush=True)
    # At most this process's hard limit, which in a container may be below the unit's value.
    files = min(int(settings(unit, "LimitNOFILE")[0]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    os.chroot(root)
    os.chdir("/")
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for one in both if is_filtered else []:
        one.load()
    return libc


def probe(libc, is_filtered):
    """Tries calls by their numbers on x86-64. Without the filters each succeeds, or fails for another reason."""
    write_execute = (9, 0, 4096, mmap.PROT_WRITE | mmap.PROT_EXEC, 0x22, -1, 0)
    for name, call, filtered, otherwise in [
        ("fork", (57,), errno.EPERM, 0),
        ("clone", (56, 17, 0, 0, 0, 0), errno.EPERM, 0),
        ("a signal to itself", (62, os.getpid(), 0), errno.EPERM, 0),
        ("unlink of what is not there", (87, b"/none"), errno.EPERM, errno.ENOENT),
        ("mount on what is not there", (165, b"none", b"/none", b"tmpfs", 0, 0), errno.EPERM, errno.ENOENT),
        ("memory to write and execute", write_execute, errno.EPERM, 0),
        ("a netlink socket", (41, 16, 3, 0), errno.EAFNOSUPPORT, 0),
        ("ptrace of no process", (101, 16, 0, 0, 0), errno.EPERM, errno.ESRCH),
    ]:
        result = libc.syscall(*(ctypes.c_long(word) if isinstance(word, int) else word for word in call))
        if result == 0 and call[0] in (56, 57):
            os._exit(0)
        got = ctypes.get_errno() if result == -1 else 0
        verdict = "ok" if got == (filtered if is_filtered else otherwise) else "not ok"
        where = "filtered" if is_filtered else "unfiltered"
        print(f"{verdict} {where}: {name}: {errno.errorcode[got] if got else 'succeeds'}", flush=True)


if __name__ == "__main__":
    unit, root, program, *arguments = sys.argv[1:]
    # Must be read before the root changes.
    environment = dict(pair.split("=", 1) for pair in settings(unit, "Environment"))
    environment |= {name: os.environ[name] for name in SUPERVISOR if name in os.environ}
    libc = confine(unit, root, program != "--probe-unfiltered")
    if program.startswith("--probe"):
        probe(libc, program == "--probe")
    else:
        os.execve(program, [program, *arguments], {"RUST_LOG": "info", **environment})
