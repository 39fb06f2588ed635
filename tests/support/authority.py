"""An authority of the test's own, and its certificates, as files and TLS contexts."""

import ssl
from pathlib import Path

import trustme


class Authority:
    """A certificate authority whose files lie in `folder`.

    Attributes:
        file: The authority's certificate.
        server: Certificate and key of a server on localhost and 127.0.0.1, one file.
        client: Certificate and key of a client, one file.
    """

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._folder = folder
        self.file = folder / "authority.pem"
        self._ca.cert_pem.write_to_path(str(self.file))
        self.server = self.issue("localhost", "127.0.0.1")
        self.client = self.issue("feeder.example")

    def issue(self, *names: str) -> Path:
        """Return a new file of a certificate for these names and its key."""
        issued = self._ca.issue_cert(*names, key_type=trustme.KeyType.ECDSA)
        path = self._folder / f"{names[0]}-{len(list(self._folder.iterdir()))}.pem"
        path.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        path.chmod(0o600)
        return path

    def server_context(self, *, asks_client: bool = False) -> ssl.SSLContext:
        """Return the TLS context of a server; it may ask for a client's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        if asks_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self._ca.configure_trust(context)
        return context
