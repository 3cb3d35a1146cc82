"""What digests cost from Python: zlib's one after another, and one visit of ours. Medians of 15, microseconds.

    pip install ./bindings/python && python3 bindings/python/compare.py
"""

import os
import statistics
import time
import zlib

import pipelib


def took(work, times):
    """Microseconds of a call."""

    def once():
        began = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - began) / times * 1e6

    return statistics.median(once() for _ in range(15))


both = pipelib.compile("crc32 | adler32")
swapped = pipelib.compile("byteswap32 | crc32")
print(f"{'bytes':>8} {'zlib: crc32, adler32':>22} {'crc32 | adler32':>16} {'ratio':>6} {'byteswap32 | crc32, copied':>27}")
for size, times in ((64, 5000), (4096, 2000), (65536, 200), (1 << 20, 20)):
    source, copy = os.urandom(size), bytearray(size)
    of_zlib = took(lambda: (zlib.crc32(source), zlib.adler32(source)), times)
    of_ours = took(lambda: both.digest(source), times)
    of_copy = took(lambda: swapped.run_into(source, copy), times)
    print(f"{size:8} {of_zlib:22.2f} {of_ours:16.2f} {of_zlib / of_ours:6.1f} {of_copy:27.2f}")
