"""The settings of a connection: headers, origin, certificates, files of secrets."""

import itertools
import json
import logging
import os
import subprocess
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.errors import BadArgumentError
from shmfeed.settings import headers as module
from shmfeed.settings import secret_files
from shmfeed.settings.headers import check_headers
from shmfeed.settings.loading import from_env, load
from shmfeed.settings.model import Settings, describe, from_json, to_json

CANARY = "c4nary-s3cr3t"


def refusal(**options):
    with pytest.raises(BadArgumentError) as caught:
        load(options, {})
    said = str(caught.value)
    assert CANARY not in said
    return said


class TestHeaders:
    def test_they_come_from_every_source_in_every_form(self, tmp_path):
        want = (("X-Key", CANARY), ("Cookie", "a=1; b"))
        lines = f"X-Key: {CANARY}\nCookie:a=1; b\n"
        files = {
            "a.json": json.dumps({"headers": dict(want)}),
            "b.json": json.dumps({"headers": lines.splitlines()}),
            "c.yaml": f"headers:\n  X-Key: {CANARY}\n  Cookie: a=1; b\n",
            "d.yaml": f"headers:\n  - 'X-Key: {CANARY}'\n  - 'Cookie: a=1; b'\n",
            "e.toml": f"[headers]\nX-Key = '{CANARY}'\nCookie = 'a=1; b'\n",
        }
        given = [{"headers": dict(want)}, {"headers": want}, {"headers": lines}]
        for name, text in files.items():
            path = tmp_path / name
            path.write_text(text)
            path.chmod(0o600)
            given.append({"config_file": path})
        for arguments in given:
            assert load(arguments, {}).headers == want
        for text in (lines, json.dumps(dict(want))):
            assert load({}, {"SHMFEED_HEADERS": text}).headers == want

    def test_no_form_of_the_settings_shows_their_values(self):
        settings = load({"headers": {"Authorization": f"Bearer {CANARY}"}}, {})
        environ = from_env({"SHMFEED_HEADERS": f"X: {CANARY}"})
        shown = [repr(settings), repr(describe(settings)), repr(settings.headers)]
        shown += [repr(list(settings.__rich_repr__())), repr(environ)]
        assert not [text for text in shown if CANARY in text]
        assert "'Authorization': '***'" in repr(settings)
        assert from_json(to_json(settings)) == settings
        assert load(environ, {}).headers == (("X", CANARY),)
        for said in (f"no {CANARY}", f"no Bearer {CANARY}", f"no Bearer {CANARY[:9]}"):
            assert CANARY[:8] not in settings.redact(said)

    def test_control_a_plain_tuple_would_show_them(self):
        # Control of the test above.
        assert CANARY in repr((("X", CANARY),))
        assert CANARY in load({}, {}).redact(f"no {CANARY}")

    @pytest.mark.parametrize("value", ["Bearer k3y12", "sid=k3y12; lang=en", "k3y12"])
    def test_a_short_secret_in_a_header_is_masked_too(self, value):
        settings = load({"headers": {"X-Any": value}}, {})
        said = settings.redact("Bearer token k3y12 is not valid, lang en")
        assert said == "Bearer token *** is not valid, lang en"

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ({"X": f"{CANARY}\r\nHost: evil"}, "'X' has a line break"),
            ({"X": f"{CANARY}\nY: z"}, "'X' has a line break"),
            ({"X": f"{CANARY}\r"}, "'X' has a line break"),
            ({"X": f"{CANARY}\0"}, "'X' has a line break"),
            ({"X": f"{CANARY}\x7f"}, "a control character"),
            ({"X": f"{CANARY}\t"}, "a control character"),
            ({"X": f"{CANARY}\x85"}, "a control character"),
            ({"X": f"{CANARY}\u20ac"}, "a character beyond Latin-1"),
            ({"X": f" {CANARY}"}, "or space around it"),
            ({"X": CANARY * 1000}, "longer than 8192 characters"),
            ({"X": CANARY.encode()}, "'X' is of type bytes"),
            ({"X": None}, "'X' is of type NoneType"),
            ({"X": [CANARY]}, "'X' is of type list"),
            ({CANARY + ":": "x"}, "the name of header 1 is not made of letters"),
            ({CANARY + "\r\n": "x"}, "the name of header 1"),
            ({"": CANARY}, "the name of header 1"),
            ({"a b": CANARY}, "the name of header 1"),
            ({"X\u00e9": CANARY}, "the name of header 1"),
            ({5: CANARY}, "the name of header 1"),
            ({"x" * 129: CANARY}, "the name of header 1"),
            ({"X-a": CANARY, "x-A": CANARY}, "'x-a' is given twice"),
            ({f"X-{n}": CANARY for n in range(65)}, "65 headers; at most 64"),
            (CANARY, 'header 1 is not of the form "Name: value"'),
            (f"X: 1\n{CANARY}", 'header 2 is not of the form "Name: value"'),
            ([f"X: 1\n{CANARY}"], "'X' has a line break"),
            ([1], "headers (its value is not shown) is not accepted"),
            (CANARY.encode(), "headers (its value is not shown) is not accepted"),
            (5, "headers (its value is not shown) is not accepted"),
        ],
    )
    def test_what_would_break_the_request_is_refused_unseen(self, value, words):
        said = refusal(headers=value)
        assert said.startswith("headers")
        assert words in said
        assert "a mapping of names to values, or lines" in said

    @pytest.mark.parametrize(
        "name",
        [
            *("Host", "HOST", "Upgrade", "connection", "Content-Length"),
            *("Transfer-Encoding", "Sec-WebSocket-Key", "sec-websocket-anything"),
            *("Origin", "Proxy-Authorization", "Expect", "TE", "Trailer", "Keep-Alive"),
        ],
    )
    def test_headers_of_the_handshake_itself_are_refused(self, name):
        assert f"the header {name!r} is set by the handshake" in refusal(
            headers={name: CANARY}
        )

    @pytest.mark.parametrize("text", ["{", '{"X": 1}', '{"X": "a", "x": "b"}', "{}x"])
    def test_a_text_of_bad_json_is_refused(self, text):
        with pytest.raises(BadArgumentError) as caught:
            load({}, {"SHMFEED_HEADERS": text})
        assert "(from environment SHMFEED_HEADERS)" in str(caught.value)

    def test_a_file_with_headers_that_others_may_read_is_warned_of(
        self, tmp_path, caplog
    ):
        path = tmp_path / "a.json"
        path.write_text(json.dumps({"headers": {"X": CANARY}}))
        path.chmod(0o644)
        with caplog.at_level(logging.WARNING):
            load({"config_file": path}, {})
        assert "holds a secret and its mode is 644" in caplog.text
        assert CANARY not in caplog.text

    @given(
        st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=4)
        | st.text(max_size=60)
    )
    def test_whatever_is_accepted_is_one_line_each(self, value):
        try:
            checked = check_headers(value)
        except BadArgumentError:
            return
        for name, text in checked:
            line = f"{name}: {text}".encode("latin-1")
            assert not set(line) & {*range(32), 127}
            assert name.lower() not in {"host", "upgrade", "connection"}

    def test_control_without_the_pattern_a_line_break_gets_in(self, monkeypatch):
        # Control of the test above.
        monkeypatch.setattr(module, "_VALUE", module.re.compile(r"(?s).*"))
        assert check_headers({"X": "a\r\nHost: b"})[0][1] == "a\r\nHost: b"


@pytest.mark.parametrize(
    "origin", ["https://example.com", "http://[::1]:80", "null", "app://x"]
)
def test_an_origin_is_accepted(origin):
    assert load({"origin": origin}, {}).origin == origin


@pytest.mark.parametrize(
    "origin",
    ["https://example.com/", "example.com", "https://a b", "x\r\ny", "", 5, b"x"],
)
def test_another_origin_is_refused(origin):
    assert "an origin such as https://example.com" in refusal(origin=origin)


def test_subprotocols_keep_their_order_and_case():
    settings = load({"subprotocols": ["v2.Json", "v1.json", "v2.Json"]}, {})
    assert settings.subprotocols == ("v2.Json", "v1.json")
    environ = {"SHMFEED_SUBPROTOCOLS": "b, a"}
    assert load({}, environ).subprotocols == ("b", "a")
    for bad in ("a b", ["a\r\n"], ["a,b"], [""], [None], "\u2603"):
        assert "subprotocol" in refusal(subprotocols=bad)


def test_compression_that_yaml_reads_as_a_flag_is_off(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("compression: off\n")
    assert load({"config_file": path}, {}).compression == "off"
    assert load({"compression": "deflate"}, {}).compression == "deflate"
    for bad in (True, "gzip", "DEFLATE", 1):
        assert "one of: off deflate" in refusal(compression=bad)


class TestCertificates:
    def test_paths_become_absolute(self, authority, monkeypatch):
        monkeypatch.chdir(authority.file.parent)
        settings = load(
            {"ca_file": authority.file.name, "client_cert": authority.client.name}, {}
        )
        monkeypatch.chdir("/")
        assert settings.ca_file == str(authority.file)
        assert settings.client_cert == (str(authority.client),)
        assert from_json(to_json(settings)) == settings

    @pytest.mark.parametrize(
        "name", ["ca_file", "client_cert", "proxy_password_file", "csrf_token_file"]
    )
    def test_a_file_that_cannot_be_read_is_refused(self, name, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "large").write_bytes(b"x" * (5 << 20))
        (tmp_path / "empty").touch()
        for file, words in (
            ("missing", "cannot be read: No such file or directory"),
            ("pipe", "is not a regular file"),
            (".", "cannot be read: Is a directory"),
            ("large", "is larger than"),
            ("empty", ""),
            ("empty/x", "cannot be read: Not a directory"),
        ):
            said = refusal(**{name: tmp_path / file})
            assert said.startswith(name)
            assert words in said
            assert "the path of a" in said
        for bad in (5, b"x", "a\0b", True, [], {}):
            if bad != [] or name != "client_cert":
                assert name in refusal(**{name: bad})

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"no certificate", "holds no certificate in PEM form"),
            (b"\xff\x00" * 99, "holds no certificate in PEM form"),
            (
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "holds a certificate that cannot be read",
            ),
            (
                b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n",
                "holds a certificate that cannot be read",
            ),
        ],
    )
    def test_an_authority_that_is_none_is_refused(self, tmp_path, content, words):
        path = tmp_path / "ca.pem"
        path.write_bytes(content)
        assert words in refusal(ca_file=path)

    def test_a_servers_certificate_is_no_authority(self, authority, tmp_path):
        issued = authority.server.read_text()
        leaf = tmp_path / "leaf.pem"
        leaf.write_text(issued[issued.index("-----BEGIN CERT") :])
        assert "none of an authority" in refusal(ca_file=leaf)
        key = tmp_path / "key.pem"
        key.write_text(issued[: issued.index("-----BEGIN CERT")])
        assert "holds no certificate" in refusal(ca_file=key)
        # Controls: beside the authority it does no harm; one that signed itself is one.
        both = tmp_path / "both.pem"
        both.write_text(
            f"# h\u00f6 - text\n{leaf.read_text()}{authority.file.read_text()}"
        )
        assert load({"ca_file": both}, {}).ca_file == str(both)
        own = tmp_path / "own.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        command += f" -keyout {tmp_path / 'k'} -out {own} -days 2 -subj /CN=localhost"
        command += " -addext basicConstraints=CA:FALSE"
        done = subprocess.run(command.split(), capture_output=True)
        if done.returncode:
            pytest.skip("this openssl has no -addext")
        assert load({"ca_file": own}, {}).ca_file == str(own)

    def test_certificate_and_key_may_lie_in_two_files(self, authority, tmp_path):
        issued = authority.client.read_text()
        at = issued.index("-----BEGIN CERT")
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        cert.write_text(issued[at:])
        key.write_text(issued[:at])
        key.chmod(0o600)
        settings = load({"client_cert": [cert, key]}, {})
        assert settings.client_cert == (str(cert), str(key))
        environ = {"SHMFEED_CLIENT_CERT": f"{cert},{key}"}
        assert load({}, environ).client_cert == settings.client_cert
        for paths, words in (
            ([cert], "holds no private key"),
            ([key, cert], "holds no certificate"),
            ([authority.file, key], "is not that of the certificate"),
            ([cert, key, cert.with_name("x")], "cannot be read"),
            ([cert, key, authority.file], "is not accepted"),
        ):
            assert words in refusal(client_cert=paths)

    def test_an_encrypted_key_is_refused_without_a_question(self, authority, tmp_path):
        encrypted = tmp_path / "encrypted.pem"
        command = f"openssl pkey -in {authority.client} -aes128 -passout pass:hunter2"
        command += f" -out {encrypted}"
        done = subprocess.run(command.split(), capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"openssl: {done.stderr}")
        said = refusal(client_cert=[authority.client, encrypted])
        assert f"the key in file {str(encrypted)!r} is encrypted" in said

    def test_a_key_that_others_may_read_is_warned_of_once(
        self, authority, tmp_path, caplog
    ):
        path = tmp_path / "open.pem"
        path.write_bytes(authority.client.read_bytes())
        path.chmod(0o644)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                load({"client_cert": path}, {})
        assert caplog.text.count("has mode 644: others may read it") == 1


def test_a_file_that_is_gone_when_a_feeder_starts_is_named(authority, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.file.read_bytes())
    sent = to_json(load({"ca_file": path}, {}))
    path.unlink()
    with pytest.raises(BadArgumentError) as caught:
        from_json(sent)
    assert str(caught.value) == (
        f"ca_file: file {str(path)!r} cannot be read: No such file or directory;"
        " the path of a PEM file with the certificates of authorities"
    )


class TestSecretFiles:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "is empty"),
            (b"\n", "is empty"),
            (b"\xff\xfe", "is not UTF-8 text"),
            (b"two\nlines", "is not one line of printable"),
            (b" space ", "is not one line of printable"),
            (b"a\0b", "is not one line of printable"),
            (b"x" * 4097, "is larger than 4096 bytes"),
        ],
    )
    def test_a_file_without_one_secret_is_refused(self, tmp_path, content, words):
        path = tmp_path / "password"
        path.write_bytes(content)
        path.chmod(0o600)
        said = refusal(proxy="http://me@x.example:1", proxy_password_file=path)
        assert f"file {str(path)!r} {words}" in said
        assert f"file {str(path)!r} {words}" in refusal(csrf_token_file=path)

    def test_the_secret_is_read_without_its_line_break(self, tmp_path):
        path = tmp_path / "password"
        for mark, end in itertools.product(("", "\ufeff"), ("", "\n", "\r\n")):
            path.write_bytes(f"{mark}{CANARY}{end}".encode())
            assert secret_files.read_secret("x", str(path)) == CANARY

    def test_a_file_that_changes_while_it_is_read_is_read_again(
        self, tmp_path, monkeypatch
    ):
        path = tmp_path / "password"
        path.write_text("old")
        changes = iter(["newer", "newest", "last"])
        real = os.fstat
        calls = []

        def fstat(descriptor):
            calls.append(descriptor)
            found = real(descriptor)
            if len(calls) % 2 and (text := next(changes, None)):
                path.write_text(text)
            return found

        monkeypatch.setattr(secret_files.os, "fstat", fstat)
        with pytest.raises(BadArgumentError, match="changes while it is read"):
            secret_files.read_secret("x", str(path))
        assert secret_files.read_secret("x", str(path)) == "last"

    def test_its_contents_stand_in_no_traceback(self, tmp_path):
        path = tmp_path / "password"
        path.write_text(f"{CANARY}\n{CANARY}")
        try:
            Settings(proxy_password_file=str(path))
        except BadArgumentError:
            assert CANARY not in traceback.format_exc()
