"""The files of deploy/: they parse, and the commands in them exist."""

import re
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.service_manager import FEEDER, SYSTEMD, Unit

from shmfeed.cli.main import COMMANDS, _build_parsers
from shmfeed.settings.loading import from_options, load

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
UNITS = sorted(SYSTEMD.glob("*.service"))
ALIVE, READY = ["status", "--alive"], ["status"]


def check_command(words: list[str]) -> list[str]:
    """Parse the words of a shmfeed command; return them without the feed's name."""
    name, *rest = words
    assert name in COMMANDS, words
    parser, _ = _build_parsers(name, import_module(COMMANDS[name].module))
    args, unknown = parser.parse_known_args(words)
    assert not unknown, words
    if name == "run" and not args.config:
        settings = load(from_options(vars(args)), {})
        assert settings.streams or settings.follows_relay
    if "--feed" in rest:
        at = rest.index("--feed")
        del rest[at : at + 2]
    return [name, *rest]


def commands_of(text: str) -> list[list[str]]:
    found = re.findall(r"^Exec\w+=/opt/shmfeed/bin/shmfeed (.*)$", text, re.MULTILINE)
    return [shlex.split(line.replace("%i", "spot")) for line in found]


class TestSystemd:
    @pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
    def test_the_commands_of_a_unit_exist(self, path: Path) -> None:
        commands = commands_of(path.read_text())
        assert commands
        for words in commands:
            check_command(words)

    @pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
    def test_systemd_accepts_a_unit(self, path: Path, tmp_path: Path) -> None:
        if shutil.which("systemd-analyze") is None:
            pytest.skip("systemd-analyze is not installed here")
        for other in UNITS:
            text = other.read_text().replace("/opt/shmfeed/bin", "/bin")
            text = re.sub(r"/bin/(shmfeed|python)\b", "/bin/true", text)
            (tmp_path / other.name).write_text(text)
        drop_in = "shmfeed@.service.d"
        shutil.copytree(SYSTEMD / drop_in, tmp_path / drop_in)
        name = path.name.replace("@", "@spot")
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", f"./{name}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        if "Failed to" in done.stderr and "bus" in done.stderr:
            pytest.skip(f"systemd-analyze does not work here: {done.stderr}")
        assert (done.returncode, done.stderr) == (0, "")

    def test_the_feeders_unit_can_be_relied_on(self) -> None:
        unit = Unit(FEEDER)
        assert unit["Type"] == "notify"
        assert int(unit["WatchdogSec"]) > 5  # a main loop still for 5 s is stale
        assert int(unit["OOMScoreAdjust"]) < 0
        # They would give it a /dev/shm, or a user, that its readers do not have.
        for key in ("PrivateDevices", "DynamicUser", "PrivateIPC"):
            assert key not in unit

    def test_a_copy_of_the_unit_takes_the_feed_over(self) -> None:
        assert "--takeover" in Unit(FEEDER).command("ExecStart", "spot")
        pages = [ROOT / "docs" / name for name in ("deployment.md", "operations.md")]
        copied = "cp deploy/systemd/shmfeed@.service .*/system/shmfeed-alt@.service"
        assert re.search(copied, pages[0].read_text())
        for page in pages:
            assert "systemctl start shmfeed-alt@spot" in page.read_text(), page

    def test_the_unit_may_write_the_log_of_the_page(self) -> None:
        unit = Unit(FEEDER)
        assert unit["ProtectSystem"] == "strict"
        page = (ROOT / "docs" / "operations.md").read_text()
        (log_file,) = re.findall(r"^log_file: (.*)$", page, re.MULTILINE)
        assert Path(log_file).parent == Path("/var/log", unit["LogsDirectory"])

    def test_the_token_is_a_credential(self) -> None:
        unit = Unit(SYSTEMD / "shmfeed@.service.d" / "token.conf")
        name = unit["LoadCredential"].partition(":")[0]
        assert unit["Environment"] == f"WEBSOCKET_CSRF_TOKEN_FILE=%d/{name}"


def load_yaml(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text())


class TestContainers:
    def test_compose_shares_a_user_and_shared_memory(self) -> None:
        compose = load_yaml("docker/compose.yaml")
        services = compose["services"]
        assert set(services) >= {"feeder", "strategy"}
        for service in services.values():
            assert service["user"] == "10001:10001"
            assert "shm:/dev/shm" in service["volumes"]
            assert "pid" not in service  # a PID namespace of its own
        assert compose["volumes"]["shm"]["driver_opts"]["type"] == "tmpfs"

    def test_compose_commands_exist(self) -> None:
        services = load_yaml("docker/compose.yaml")["services"]
        for name in ("feeder", "metrics"):
            check_command(services[name]["command"])
        kind, program, *words = services["feeder"]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "shmfeed")
        assert check_command(words) == ALIVE

    def test_each_host_of_a_relay_has_its_own_shared_memory(self) -> None:
        hosts = load_yaml("docker/relay.yaml")["services"]
        redis = hosts.pop("redis")
        assert set(hosts) == {"leader", "standby", "follower-1", "follower-2"}
        for host in hosts.values():
            check_command(host["command"])
            program, *probe = host["healthcheck"]["test"][1:]
            assert program == "shmfeed"
            assert check_command(probe) == ALIVE
            assert host["shm_size"]
            assert "volumes" not in host
        assert hosts["leader"] == hosts["standby"]
        assert "$$REDIS_PASSWORD" in redis["command"][-1]  # the shell's, in no argument

    def test_a_probe_restarts_no_feeder_for_its_data(self) -> None:
        pod = load_yaml("kubernetes/feed.yaml")["spec"]["template"]["spec"]
        feeder = next(one for one in pod["containers"] if one["name"] == "feeder")
        check_command(feeder["args"])
        probes = {}
        for kind in ("startup", "liveness", "readiness"):
            program, *words = feeder[f"{kind}Probe"]["exec"]["command"]
            assert program == "shmfeed"
            probes[kind] = check_command(words)
        assert probes == {"startup": ALIVE, "liveness": ALIVE, "readiness": READY}

    def test_a_pods_containers_share_a_user_and_shared_memory(self) -> None:
        pod = load_yaml("kubernetes/feed.yaml")["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsUser"]
        (shared,) = [v["name"] for v in pod["volumes"] if "emptyDir" in v]
        for container in pod["containers"]:
            assert "securityContext" not in container
            mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
            assert mounts["/dev/shm"] == shared
        assert not pod.get("shareProcessNamespace")

    def test_the_dockerfile_builds_the_c_core_and_runs_as_that_user(self) -> None:
        text = (DEPLOY / "docker" / "Dockerfile").read_text()
        assert "SHMFEED_BUILD_EXTENSION=yes" in text
        assert "USER 10001:10001" in text
        assert 'ENTRYPOINT ["shmfeed"]' in text


def test_the_page_names_each_file() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    for path in DEPLOY.glob("[!gp]*/**/*"):
        if path.is_file():
            assert str(path.relative_to(ROOT)) in page, path
