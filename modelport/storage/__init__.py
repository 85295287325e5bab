"""Storage: object stores (S3, Azure Blob, Google Cloud Storage): listed, read by range, downloaded, written.

`uri` is `s3://bucket/path`, `gs://bucket/path` or `az://container/path` (also `aws://`, `azure://`). `env` is a mapping
of environment variables that says where the store is and who asks, as each cloud's tools name them; what it does not
say, this process's own environment does. All raise ModelportError with a sentence that holds no secret: 403 for
credentials that are missing or refused, 404 for what is not there, 503 for a store that does not answer.
"""

from modelport.storage.archive import is_archive
from modelport.storage.clouds import CLOUDS, is_cloud, place_of, store
from modelport.storage.model import model, models_directory, unpacked
from modelport.storage.objects import File, files, found, reach, read, write

__all__ = [
    "CLOUDS",
    "File",
    "files",
    "found",
    "is_archive",
    "is_cloud",
    "model",
    "models_directory",
    "place_of",
    "reach",
    "read",
    "store",
    "unpacked",
    "write",
]
