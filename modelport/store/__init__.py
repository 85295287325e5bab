"""Tables and queries. A Store is one installation's database; each file beside this one is one table's verbs."""

from modelport.store.database import Store, open_store

__all__ = ["Store", "open_store"]
