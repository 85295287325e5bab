"""The Python client: every Verb over HTTP, to control's own socket or through a gateway."""

from modelport.client.client import Client

__all__ = ["Client"]
