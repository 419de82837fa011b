"""From a list of places and a hash to a verified file under its final name."""

from .fetch import fetch_file, fetch_messages, fetch_tokenizer, is_local, local_path, sha256_of

__all__ = ["fetch_file", "fetch_messages", "fetch_tokenizer", "is_local", "local_path", "sha256_of"]
