"""Downloads: from a list of sources and a sha256 to a verified file under its final name."""

from .fetch import fetch_file, fetch_messages, fetch_tokenizer

__all__ = ["fetch_file", "fetch_messages", "fetch_tokenizer"]
