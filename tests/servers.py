"""Real servers on the loopback address, as DVC's remotes: an sshd, and the S3 of Ceph's radosgw."""

import getpass
import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from s3fs import S3FileSystem

from tests.conftest import Clone

HOST = "127.0.0.1"
SECONDS = 60  # until a server must answer


@dataclass(frozen=True)
class Remote:
    """An empty remote: what a project's config says of it, what one machine's alone says, and its files from behind."""

    url: str
    shared: dict[str, str]
    local: dict[str, str]
    files: AbstractFileSystem
    folder: str

    def add(self, clone: Clone) -> None:
        """Make it the default remote, and commit that."""
        clone.run("dvc", "remote", "add", "--default", "store", self.url)
        for option, value in {**self.shared, "verify": "true"}.items():
            clone.run("dvc", "remote", "modify", "store", option, value)
        clone.run("git", "commit", "--quiet", "--all", "--message", "a remote")
        self.enter(clone)

    def enter(self, clone: Clone) -> None:
        """Tell the clone what git is not to see."""
        for option, value in self.local.items():
            clone.run("dvc", "remote", "modify", "--local", "store", option, value)

    def path(self, md5: str) -> str:
        """Return where the object with that name is."""
        return f"{self.folder}/files/md5/{md5[:2]}/{md5[2:]}"


@pytest.fixture(params=["over_ssh", pytest.param("over_s3", marks=pytest.mark.xdist_group("s3"))])
def remote(request: pytest.FixtureRequest) -> Remote:
    """Each kind of remote."""
    return request.getfixturevalue(request.param)


@dataclass(frozen=True)
class Sshd:
    """A running sshd: its port, and a folder that is the home of a user who knows its key."""

    port: int
    home: Path


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """Run an sshd that lets in whoever runs the tests, with keys of its own."""
    server, keygen = program("sshd"), program("ssh-keygen")
    folder, port = tmp_path_factory.mktemp("sshd"), free_port()
    user = folder / "home/.ssh"
    user.mkdir(parents=True)
    for key in (folder / "host", user / "id_ed25519"):
        run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", key)
    (user / "known_hosts").write_text(f"[{HOST}]:{port} {(folder / 'host.pub').read_text()}")
    # DVC takes any host key; ssh itself, as the proxy, holds it to known_hosts
    options = f"-i {user}/id_ed25519 -o UserKnownHostsFile={user}/known_hosts -o StrictHostKeyChecking=yes"
    (user / "config").write_text(f"Host {HOST}\n  ProxyCommand ssh -F none {options} -W {HOST}:%p -p %p %r@%h\n")
    (folder / "config").write_text(
        f"ListenAddress {HOST}:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {user}/id_ed25519.pub\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\nPidFile none\n"
        "Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # root's sshd needs it; Debian makes it at boot
    with running(server, "-D", "-e", "-f", folder / "config", log=folder / "log") as process:
        wait_for(lambda: socket.create_connection((HOST, port)).close(), process, folder / "log")
        yield Sshd(port, folder / "home")


@pytest.fixture
def over_ssh(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """Return a folder behind the sshd; the clones of the test have the home that goes with it."""
    monkeypatch.setenv("HOME", str(sshd.home))
    url = f"ssh://{getpass.getuser()}@{HOST}:{sshd.port}{tmp_path}/store"
    return Remote(url, {}, {"keyfile": f"{sshd.home}/.ssh/id_ed25519"}, LocalFileSystem(), f"{tmp_path}/store")


CEPH = """[global]
fsid = {fsid}
mon host = {monitor}
ms bind msgr2 = false
public addr = {host}
cluster addr = {host}
auth cluster required = none
auth service required = none
auth client required = none
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
paxos propose interval = 0.05
paxos min wait = 0.01
rgw rados pool pg num min = 1
rgw run sync thread = false
rgw frontends = beast endpoint={host}:{port}
run dir = {folder}
admin socket =
pid file =
log file =
log to stderr = true
"""


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3FileSystem]:
    """Run a Ceph of one monitor, one store in memory and the S3 gateway, and return its one user's way in."""
    names = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool")
    mon, osd, gateway, admin, ceph, monmaptool = map(program, names)
    folder, port, monitor, fsid, uuid = tmp_path_factory.mktemp("ceph"), free_port(), free_port(), uuid4(), str(uuid4())
    address = f"v1:{HOST}:{monitor}"
    (folder / "osd").mkdir()
    conf = ("-c", folder / "ceph.conf")
    conf[1].write_text(CEPH.format(fsid=fsid, monitor=address, host=HOST, folder=folder, port=port))
    run(monmaptool, "--create", "--fsid", str(fsid), "--addv", "a", f"[{address}]", folder / "map")
    run(mon, *conf, "--mkfs", "-i", "a", "--monmap", folder / "map")
    # without --no-mon-config, every other start of Debian 12's ceph-osd (16.2) ends in an exception, `map::at`
    store = (osd, *conf, "-i", "0", "--no-mon-config")
    log = folder / "gateway.log"
    with ExitStack() as servers:
        start = servers.enter_context
        start(running(mon, *conf, "-f", "-i", "a", "--public-addr", address, log=folder / "mon.log"))
        run(ceph, *conf, "osd", "new", uuid)
        run(*store, "--mkfs", "--osd-uuid", uuid)
        start(running(*store, "-f", log=folder / "osd.log"))
        process = start(running(gateway, *conf, "-f", "-n", "client.rgw", log=log))
        run(admin, *conf, "user", "create", "--uid=dvc", "--display-name=dvc", "--access-key=dvc", "--secret-key=dvc")
        wait_for(lambda: ask(port), process, log)
        keys = {"key": "dvc", "secret": "dvc"}
        yield S3FileSystem(endpoint_url=f"http://{HOST}:{port}", use_listings_cache=False, **keys)


@pytest.fixture
def over_s3(radosgw: S3FileSystem) -> Remote:
    """Return a bucket of the radosgw."""
    bucket = str(uuid4())
    radosgw.mkdir(bucket)
    keys = {"access_key_id": "dvc", "secret_access_key": "dvc"}
    return Remote(f"s3://{bucket}", {"endpointurl": radosgw.endpoint_url}, keys, radosgw, bucket)


def program(name: str) -> str:
    """Return where a program is, also in the folder of servers that not every PATH has; skip the test if nowhere."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.create_server((HOST, 0)) as listener:
        return listener.getsockname()[1]


def run(*command: str | Path) -> None:
    """Run a command that sets a server up, to its end."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"


@contextmanager
def running(*command: str | Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server; end it."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()  # nothing that it has is to be kept
        process.wait()


def ask(port: int) -> None:
    """Raise an OSError unless a web server answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
    connection.request("GET", "/")
    connection.getresponse()
    connection.close()


def wait_for(answers: Callable[[], None], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `answers` raises no OSError; fail with the log if the server ends, or takes too long."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return answers()
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
