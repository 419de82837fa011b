"""From a list of places and a hash to a verified file under its final name."""

from ...common.hashing import sha256_of
from .fetch import fetch_file, fetch_messages, fetch_tokenizer, is_local, local_path

__all__ = ["fetch_file", "fetch_messages", "fetch_tokenizer", "is_local", "local_path", "sha256_of"]
