"""What the module promises. Run by python.rs."""

import array
import doctest
import hashlib
import inspect
import os
import sys
import threading
import time
import unittest
import zlib

import pipelib

ABOVE = """
pipe above(bound: u8 = 127) : u8 {
    state count: u64
    in   x
    ltu  hit, bound, x
    zext one, hit
    add  count, count, one
    export count
}
"""


class Runs(unittest.TestCase):
    def test_every_way_gives_the_same(self):
        engine = pipelib.compile("inet_cksum as sum | byteswap32 | crc32")
        for size in (0, 4, 64, 1460, 100_000):
            source = bytes(i * 7 & 255 for i in range(size))
            out, run = engine.run(source)
            swapped = array.array("I", source)
            swapped.byteswap()
            self.assertEqual(out, swapped.tobytes())
            self.assertEqual(run["crc32.crc"], zlib.crc32(out))
            self.assertEqual((run.read, run.written), (size, size))
            into = bytearray(size + 3)
            self.assertEqual(dict(engine.run_into(source, into)), dict(run))
            self.assertEqual(into[:size], out)
            place = bytearray(source)
            self.assertEqual(dict(engine.run_in_place(place)), dict(run))
            self.assertEqual(place, out)
            for view in (source, bytearray(source), memoryview(source), array.array("I", source)):
                self.assertEqual(dict(engine.digest(view)), dict(run))

    def test_threads_of_both_kinds(self):
        engine = pipelib.compile("crc32 | adler32")
        source = os.urandom(8 << 20)
        wanted = {"crc32.crc": zlib.crc32(source), "adler32.adler": zlib.adler32(source)}
        self.assertLessEqual(wanted.items(), dict(engine.digest(source, threads=2)).items())
        found = []
        work = [threading.Thread(target=lambda: found.append(dict(engine.digest(source)))) for _ in range(4)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        self.assertEqual(len(found), 4)
        for one in found:
            self.assertLessEqual(wanted.items(), one.items())

    def overlaps(self, work):
        """Whether this thread came to run while that worked in another."""
        done = threading.Event()
        thread = threading.Thread(target=lambda: (work(), done.set()))
        thread.start()
        turns = 0
        while not done.is_set():
            turns += 1
            time.sleep(0.0001)
        thread.join()
        return turns > 0

    def test_others_run_meanwhile(self):
        """Over `bytes`. Nobody is asked to make way for another here, so that only who makes way does."""
        switch = sys.getswitchinterval()
        sys.setswitchinterval(60)
        try:
            engine, source = pipelib.compile("crc32"), bytes(16 << 20)
            streams, memory = (engine.stream(), engine.stream()), bytearray(source)
            for work in (engine.digest, engine.run, streams[0].digest, streams[1].push):
                # A busy system may not come round to this thread in some milliseconds.
                self.assertTrue(any(self.overlaps(lambda: work(source)) for _ in range(100)), work)
            self.assertFalse(any(self.overlaps(lambda: engine.digest(memory)) for _ in range(5)))
        finally:
            sys.setswitchinterval(switch)

    def test_values_may_do_anything(self):
        engine = pipelib.compile("crc32")
        register = engine.registers[0]
        memory, imports = bytearray(b"123456789"), {}

        class Value:
            def __index__(self):
                imports.clear()
                memory[:] = b"987654321"
                return 0

        imports[register] = Value()
        run = engine.digest(memory, imports=imports)
        self.assertEqual(memory, b"987654321")
        self.assertEqual(run["crc32.crc"], engine.digest(memory, imports={register: 0})["crc32.crc"])

    def test_digests_are_bytes(self):
        run = pipelib.compile("crc32c | sha256 as d | md5 per 2").digest(b"abc")
        self.assertEqual(run["d.digest"], hashlib.sha256(b"abc").digest())
        self.assertEqual(run["md5.digest"], [hashlib.md5(b"ab").digest(), hashlib.md5(b"c").digest()])
        self.assertIn(hashlib.sha256(b"abc").hexdigest(), repr(run))

    def test_windows_are_lists(self):
        run = pipelib.compile("crc32 per 4").digest(b"aaaaaaaabb")
        self.assertEqual(run["crc32.crc"], [zlib.crc32(part) for part in (b"aaaa", b"aaaa", b"bb")])

    def test_streams(self):
        engine = pipelib.compile("crc32 | byteswap32")
        source = os.urandom(10_000)
        once, whole = engine.run(source)
        for step in (1, 3, 64, 999, 10_000):
            stream = engine.stream()
            out = b"".join(stream.push(source[at : at + step]) for at in range(0, len(source), step))
            rest, run = stream.finish()
            self.assertEqual(out + rest, once)
            self.assertEqual(dict(run), dict(whole))
            with self.assertRaisesRegex(pipelib.PipeError, "finished"):
                stream.push(b"more")
        stream = engine.stream()
        stream.digest(source)
        self.assertEqual(dict(stream.finish()[1]), dict(whole))


class Refusals(unittest.TestCase):
    def test_texts(self):
        with self.assertRaisesRegex(pipelib.TextError, "crc32"):
            pipelib.compile("crc32d")
        library = pipelib.Library()
        with self.assertRaisesRegex(pipelib.TextError, "mine:1:"):
            library.load("pipe above(bound: u8) : u8 { in x", name="mine")
        library.load(ABOVE)
        self.assertIn("above", library.pipes())
        with self.assertRaisesRegex(pipelib.PipeError, "auto, interp, cranelift, native"):
            library.compile("above", backend="llvm")
        engine = library.compile("above(bound=99)", backend="interp")
        self.assertEqual((engine.backend, engine.exports, engine.registers), ("interp", ["above.count"], ["above.count"]))
        self.assertEqual(engine.digest(b"cdef", imports={"above.count": 40})["above.count"], 43)
        with self.assertRaises(KeyError):
            engine.digest(b"cdef", imports={"above.bound": 1})
        with self.assertRaises(KeyError):
            engine.digest(b"cdef")["above.sum"]

    def test_buffers(self):
        engine = pipelib.compile("byteswap32")
        memory = bytearray(b"0123456789abcdef")
        with self.assertRaisesRegex(pipelib.PipeError, "cannot be written"):
            engine.run_in_place(b"0123")
        with self.assertRaisesRegex(pipelib.PipeError, "overlap"):
            engine.run_into(memoryview(memory)[:12], memoryview(memory)[4:])
        with self.assertRaisesRegex(pipelib.PipeError, "one piece"):
            engine.digest(memoryview(memory)[::2])
        with self.assertRaises(pipelib.PipeError):
            engine.run_into(memory, bytearray(15))
        with self.assertRaises(TypeError):
            engine.run("text")
        self.assertEqual(memory, b"0123456789abcdef")

    def test_a_mismatch_says_where(self):
        framed, _ = pipelib.compile("crc32 -> ethernet_fcs").run(b"x" * 300)
        self.assertEqual(framed[300:], zlib.crc32(b"x" * 300).to_bytes(4, "little"))
        check = pipelib.compile("ethernet_fcs -> crc32")
        self.assertEqual(check.run(framed)[0], b"x" * 300)
        bad = bytearray(framed)
        bad[7] ^= 1
        with self.assertRaises(pipelib.MismatchError) as caught:
            check.run(bad)
        self.assertEqual((caught.exception.window, caught.exception.offset), (0, 300))
        self.assertNotEqual(caught.exception.expected, caught.exception.found)
        stream = check.stream(hold_back=True)
        self.assertEqual(stream.push(bad), b"")
        with self.assertRaises(pipelib.MismatchError):
            stream.finish()


class Stubs(unittest.TestCase):
    def test_they_name_what_there_is(self):
        """The stubs are Python with the bodies left out, so their names can be compared with the module's."""
        import ast

        with open(os.environ["PIPELIB_STUBS"]) as file:
            stubs = ast.parse(file.read())
        for item in stubs.body:
            if isinstance(item, ast.ClassDef):
                cls = getattr(pipelib, item.name)
                said = {f.name for f in item.body if isinstance(f, ast.FunctionDef) and not f.name.startswith("_")}
                there = {name for name in vars(cls) if not name.startswith("_")}
                self.assertEqual(said, there, item.name)
                functions = [(f, getattr(cls, f.name)) for f in item.body if isinstance(f, ast.FunctionDef)]
            elif isinstance(item, ast.FunctionDef):
                functions = [(item, getattr(pipelib, item.name))]
            else:
                continue
            for stub, function in functions:
                if stub.name.startswith("_") or not callable(function):
                    continue
                said = [a.arg for a in stub.args.args + stub.args.kwonlyargs]
                self.assertEqual(said, list(inspect.signature(function).parameters), stub.name)


def load_tests(loader, tests, ignore):
    tests.addTests(doctest.DocTestSuite(pipelib))
    tests.addTests(doctest.DocFileSuite(os.environ["PIPELIB_README"], module_relative=False))
    return tests


if __name__ == "__main__":
    unittest.main()
