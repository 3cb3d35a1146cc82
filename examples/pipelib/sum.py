"""The Internet checksum and the CRC32C of a file, and a copy of it with each byte as the difference from the
one before, in one read.

    pip install ./bindings/python      # wants Rust; or see docs/bindings.md
    python3 examples/pipelib/sum.py README.md /tmp/differences
"""

import sys

import pipelib

with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as copy:
    stream = pipelib.compile("inet_cksum as sum | crc32c | delta8").stream()
    while chunk := source.read(1 << 16):
        copy.write(stream.push(chunk))
    rest, run = stream.finish()
    copy.write(rest)

for name, value in dict(run).items():
    print(f"{name} = {value:#x}")
