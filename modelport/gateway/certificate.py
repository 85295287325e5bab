"""Certificate: what TLS connections are answered with, from PEM files, taken anew when those change."""

import logging
import os
import ssl
from pathlib import Path

from modelport.errors import ModelportError
from modelport.settings import Settings

log = logging.getLogger("modelport.gateway")


class Certificate:
    """`context` serves TLS 1.2 and later, and HTTP/1.1 only. Raises ModelportError where the files cannot be used."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain, self._key = chain, key
        self._stamp = self._look()
        self.context = self._loaded()

    @classmethod
    def of(cls, settings: Settings) -> "Certificate | None":
        """The settings' certificate; None where they have none and plain HTTP is served."""
        chain, key = settings.tls_cert, settings.tls_key
        if chain is None and key is None:
            return None
        if chain is None or key is None:
            raise ModelportError(
                "For https both tls_cert and tls_key must be set (MODELPORT_TLS_CERT, MODELPORT_TLS_KEY), "
                f"and {'tls_cert' if chain is None else 'tls_key'} is not."
            )
        return cls(chain.expanduser(), key.expanduser())

    def refresh(self) -> None:
        """Use the files as they are now for new connections. While they are not usable the old ones go on."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._loaded()  # first apart: one that does not match its key would leave the context with neither
            self.context.load_cert_chain(self._chain, self._key, password="")
            log.info("the TLS certificate was read again")
        except (ModelportError, OSError) as error:
            stamp = None
            if self._stamp is not None:
                log.warning("the old TLS certificate is kept: %s", error)
        self._stamp = stamp

    def _look(self) -> tuple[tuple[int, int, int], ...] | None:
        """What changes when a file does."""
        found: list[tuple[int, int, int]] = []
        for path, field in ((self._chain, "tls_cert"), (self._key, "tls_key")):
            try:
                with path.open("rb") as file:
                    seen = os.fstat(file.fileno())
            except OSError as error:
                raise ModelportError(f"The {field} file {path} cannot be read: {error.strerror}.") from None
            found.append((seen.st_mtime_ns, seen.st_size, seen.st_ino))
        return tuple(found)

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._chain, self._key, password="")  # never asked for on a terminal
        except OSError as error:  # ssl.SSLError is one
            match = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
            why = "the key is not the certificate's" if match else "both must be PEM files, the key without a password"
            raise ModelportError(f"TLS cannot use tls_cert {self._chain} and tls_key {self._key}: {why}.") from None
        return context
