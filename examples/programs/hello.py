#!/usr/bin/env python3
"""A program behind Cheetah, in Python, without any library: cheetah serve site --program "/hello=python3 hello.py".

/hello/N gives N lines; anything else gives back the content that was sent. The messages are described in
cheetah/program/src/wire.rs: numbers are little-endian, and each message is a packet of the socket at the standard input.
"""

import array
import fcntl
import mmap
import os
import socket
import struct

BUFFER_BYTES, BUFFERS = 65536, 64
F_ADD_SEALS, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW = 1033, 1, 2, 4
HELLO, ANSWER = 1, 2
REQUEST, CONTENT, RELEASE, CANCEL = 1, 2, 3, 4
MORE = 1


class Program:
    def __init__(self):
        self.server = socket.socket(fileno=0)
        memory = os.memfd_create("shared-buffers", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, BUFFER_BYTES * BUFFERS)
        self.memory = mmap.mmap(memory, BUFFER_BYTES * BUFFERS)
        fcntl.fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))
        self.server.sendmsg([struct.pack("<II", HELLO, 1)], [rights])
        os.close(memory)
        self.generations = [0] * BUFFERS
        self.free = list(range(BUFFERS))
        self.requests = []
        self.coming = {}

    def hear(self):
        """Takes in one message; False when the server has ended."""
        message = self.server.recv(65536)
        if not message:
            return False
        kind, number = struct.unpack_from("<II", message)
        if kind == REQUEST:
            (length,) = struct.unpack_from("<Q", message, 8)
            words = message[16:].split(b"\0")
            request = [number, dict(zip(words[0::2], words[1::2])), length, b""]
            if length:
                self.coming[number] = request
            else:
                self.requests.append(request)
        elif kind == CONTENT and number in self.coming:
            self.coming[number][3] += message[8:]
            if len(self.coming[number][3]) >= self.coming[number][2]:
                self.requests.append(self.coming.pop(number))
        elif kind == RELEASE:
            for at in range(number):
                buffer, _, _ = struct.unpack_from("<QQQ", message, 8 + 24 * at)
                self.free.append(buffer)
        elif kind == CANCEL:
            self.coming.pop(number, None)
        return True

    def next(self):
        while not self.requests:
            if not self.hear():
                return None
        return self.requests.pop(0)

    def answer(self, number, head, content):
        """Answers with what `content` gives, pieces of at most BUFFER_BYTES bytes, each in a buffer of its own."""
        for piece, more in look_ahead(content):
            while not self.free:
                if not self.hear():
                    return
            buffer = self.free.pop()
            self.generations[buffer] += 1
            start = buffer * BUFFER_BYTES
            self.memory[start : start + len(piece)] = piece
            message = struct.pack("<IIIII", ANSWER, number, MORE if more else 0, len(head), 1) + head
            place = (buffer, self.generations[buffer], start, BUFFER_BYTES, 0, len(piece), 0)
            self.server.send(message + struct.pack("<QQQIIII", *place))
            head = b""


def look_ahead(pieces):
    """Pairs each piece with whether another one follows."""
    pieces = iter(pieces)
    piece = next(pieces)
    for following in pieces:
        yield piece, True
        piece = following
    yield piece, False


def lines(count):
    for first in range(1, count + 1, 4000):
        last = min(count + 1, first + 4000)
        yield "".join(f"line {n}\n" for n in range(first, last)).encode()


def main():
    program = Program()
    while request := program.next():
        number, params, _, content = request
        name = params.get(b"PATH_INFO", b"")[1:]
        if name.isdigit() and int(name) > 0:
            pieces = lines(int(name))
        else:
            pieces = (content[at : at + BUFFER_BYTES] for at in range(0, max(1, len(content)), BUFFER_BYTES))
        program.answer(number, b"Content-Type: text/plain\n", pieces)


main()
