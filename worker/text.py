"""Text that handlers give us, made fit to be kept: bounded, and nothing that UTF-8 or a database refuses."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold, and NUL, which databases cut a text at."""
    if not text.isascii():
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text.replace("\0", _REPLACEMENT)


def cut(text: str, limit: int) -> str:
    """The first ``limit`` characters of the clean text, with a mark if that is not all."""
    if len(text) <= limit:
        return clean(text)
    return f"{clean(text[:limit])} … (cut; it had {len(text)} characters)"


def cut_middle(text: str, limit: int) -> str:
    """The clean text without its middle, if it has more than ``limit`` characters."""
    if len(text) <= limit:
        return clean(text)
    head = limit // 4
    return clean(f"{text[:head]}\n… (cut; it had {len(text)} characters) …\n{text[head - limit :]}")
