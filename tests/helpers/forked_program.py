"""A command that is forked by the process of forking.py, to which it hands everything over; see there.

Its name says which command it is, and its folder where the socket is. It is started often, so it loads nothing that
takes time. What is no command to fork runs as it would without it.
"""

import _signal
import _socket
import contextlib
import marshal
import os
import sys

_MODULES = ("stages.", "dvc", "jaegpt.", "torch.distributed.run")
_SIGNALS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)


def main() -> None:
    """End as the fork ends."""
    folder, name = os.path.split(sys.argv[0])
    arguments = sys.argv[1:]
    if name == "python":
        if arguments[:1] == ["-u"]:  # as torchrun starts its processes
            del arguments[0]
        first, second = [*arguments, "", ""][:2]
        if not ((first == "-m" and second.startswith(_MODULES)) or first.endswith(".py")):
            os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    mask = os.umask(0o077)
    os.umask(mask)
    ignored = [int(number) for number in _SIGNALS if _signal.getsignal(number) == _signal.SIG_IGN]
    request = marshal.dumps((name, arguments, os.getcwd(), dict(os.environ), mask, ignored))
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.connect(os.path.join(folder, "socket"))
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
    connection.sendmsg([len(request).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
    connection.sendall(request)
    fork = _number(connection)

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(fork, number)

    for number in _SIGNALS:
        if number not in ignored:
            _signal.signal(number, pass_on)
    code = _number(connection)
    if code < 0:  # the number of the signal that ended it
        if -code not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(-code, _signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _number(connection: _socket.socket) -> int:
    data = b""
    while len(data) < 4:
        part = connection.recv(4 - len(data))
        if not part:
            sys.exit("the process that forks has ended")
        data += part
    return int.from_bytes(data, "big", signed=True)


if __name__ == "__main__":
    main()
