"""Times and sizes as people read them, in at most eight characters."""


def duration(seconds: float | None) -> str:
    """`8 s`, `12 min`, `3.5 h`, `2.1 days`; `?` if it is not known."""
    if seconds is None:
        return "?"
    for limit, unit, name, digits in ((99.5, 1, "s", 0), (5970, 60, "min", 0), (172800, 3600, "h", 1)):
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86400:.1f} days"


def file_size(number: float) -> str:
    """Bytes in decimal units: `15 kB`, `548 MB`, `6.4 GB`."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if number >= 0.9995 * unit:
            value = number / unit
            return f"{value:.0f} {name}" if value >= 99.95 else f"{value:.1f} {name}"
    return f"{number / 1e3:.0f} kB"


def memory(mebibytes: float) -> str:
    """MiB in binary units: `512 MiB`, `23.5 GiB`."""
    return f"{mebibytes:.0f} MiB" if mebibytes < 999.5 else f"{mebibytes / 1024:.1f} GiB"
