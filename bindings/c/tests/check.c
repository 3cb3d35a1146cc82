/* What the C interface promises, asserted in C. Run by c.rs. */
#include "pipelib.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define OK(call) do { \
    PlStatus status_ = (call); \
    if (status_ != PL_STATUS_OK) { fprintf(stderr, "%s: %d: %s\n", #call, status_, pl_message()); return 1; } \
  } while (0)
#define IS(call, wanted) do { \
    PlStatus status_ = (call); \
    if (status_ != (wanted)) { fprintf(stderr, "%s: %d, not %s: %s\n", #call, status_, #wanted, pl_message()); return 1; } \
  } while (0)

static int whole_streams(void) {
  PlEngine *engine = NULL;
  OK(pl_compile(NULL, "inet_cksum as sum | byteswap32 | crc32c", NULL, &engine));
  assert(pl_export_count(engine) == 3);
  assert(strcmp(pl_export_name(engine, 1), "sum.cksum") == 0 && pl_export_bits(engine, 1) == 16);
  assert(strcmp(pl_export_name(engine, 2), "crc32c.crc") == 0 && pl_export_bits(engine, 2) == 32);
  assert(pl_export_name(engine, 3) == NULL && !pl_export_windowed(engine, 0));

  const char src[] = "0123456789abcdef";
  char dst[16];
  uint64_t values[3], again[3];
  size_t written = 0, bytes = 0;
  OK(pl_out_len(engine, 16, &bytes));
  assert(bytes == 16);
  OK(pl_run(engine, NULL, src, 16, dst, sizeof dst, values, &written));
  assert(written == 16 && memcmp(dst, "32107654ba98fedc", 16) == 0);

  /* In place, for the results alone, and in pieces: the same. */
  char buffer[16];
  memcpy(buffer, src, 16);
  OK(pl_run(engine, NULL, buffer, 16, buffer, 16, again, NULL));
  assert(memcmp(buffer, dst, 16) == 0 && memcmp(values, again, sizeof values) == 0);
  memset(again, 0, sizeof again);
  OK(pl_run(engine, NULL, src, 16, NULL, 0, again, &written));
  assert(written == 0 && memcmp(values, again, sizeof values) == 0);
  char wide[21] = "0123456789abcdefrest";
  OK(pl_run(engine, NULL, wide, 16, wide, 20, again, &written));
  assert(written == 16 && memcmp(wide, dst, 16) == 0 && memcmp(wide + 16, "rest", 4) == 0);
  assert(memcmp(values, again, sizeof values) == 0);
  char first[3], second[13];
  PlPiece from[] = {{(void *)src, 7}, {NULL, 0}, {(void *)(src + 7), 9}};
  PlPiece to[] = {{first, 3}, {second, 13}};
  PlRun *run = NULL;
  OK(pl_run_pieces(engine, NULL, from, 3, to, 2, &run));
  assert(memcmp(first, dst, 3) == 0 && memcmp(second, dst + 3, 13) == 0);
  assert(pl_run_read(run) == 16 && pl_run_written(run) == 16);
  uint64_t value = 0;
  OK(pl_run_export(run, "crc32c.crc", &value));
  assert(value == values[2] && value == 0x9a2b3063);
  IS(pl_run_export(run, "crc32c.cksum", &value), PL_STATUS_NO_SUCH_NAME);
  pl_run_free(run);

  /* What is refused, with nothing written. */
  memset(dst, 'x', sizeof dst);
  IS(pl_run(engine, NULL, src, 16, dst, 15, NULL, NULL), PL_STATUS_SHORT_DESTINATION);
  IS(pl_run(engine, NULL, buffer, 12, buffer + 4, 12, NULL, NULL), PL_STATUS_OVERLAP);
  IS(pl_run(engine, NULL, buffer, 16, buffer, 12, NULL, NULL), PL_STATUS_SHORT_DESTINATION);
  IS(pl_run(engine, NULL, NULL, 16, dst, 16, NULL, NULL), PL_STATUS_ARGUMENT);
  IS(pl_run(NULL, NULL, src, 16, dst, 16, NULL, NULL), PL_STATUS_ARGUMENT);
  PlPiece twice[] = {{buffer, 8}, {buffer + 4, 8}};
  IS(pl_run_pieces(engine, NULL, from, 3, twice, 2, &run), PL_STATUS_OVERLAP);
  PlPiece none[] = {{NULL, 4}};
  IS(pl_run_pieces(engine, NULL, none, 1, NULL, 0, &run), PL_STATUS_ARGUMENT);
  IS(pl_run_pieces(engine, NULL, from, 3, none, 1, &run), PL_STATUS_ARGUMENT);
  assert(run == NULL);
  for (int i = 0; i < 16; i++) assert(dst[i] == 'x');
  OK(pl_run(engine, NULL, NULL, 0, NULL, 0, values, NULL));
  pl_engine_free(engine);
  return 0;
}

static int texts_and_options(void) {
  PlEngine *engine = NULL;
  IS(pl_compile(NULL, "crc32d", NULL, &engine), PL_STATUS_TEXT);
  assert(engine == NULL && strstr(pl_message(), "crc32") != NULL);
  IS(pl_compile(NULL, NULL, NULL, &engine), PL_STATUS_ARGUMENT);
  IS(pl_compile(NULL, "\xff", NULL, &engine), PL_STATUS_ARGUMENT);

  PlLibrary *library = pl_library_standard();
  assert(library != NULL);
  IS(pl_library_load(library, "mine", "pipe above(bound: u8) : u8 { in x"), PL_STATUS_TEXT);
  OK(pl_library_load(library, "mine",
                     "pipe above(bound: u8 = 127) : u8 {\n"
                     "  state count: u64\n  in x\n  ltu hit, bound, x\n  zext one, hit\n"
                     "  add count, count, one\n  export count\n}\n"));
  PlOptions interp = {.backend = PL_BACKEND_INTERP};
  OK(pl_compile(library, "above(bound=99)", &interp, &engine));
  pl_library_free(library);
  assert(strcmp(pl_engine_backend(engine), "interp") == 0);
  assert(strcmp(pl_register_name(engine, 0), "above.count") == 0 && pl_register_name(engine, 1) == NULL);

  /* A run that goes on where the one before it stopped. */
  PlImports *imports = pl_imports(engine);
  OK(pl_imports_set(imports, "above.count", 40));
  IS(pl_imports_set(imports, "above.bound", 1), PL_STATUS_NO_SUCH_NAME);
  uint64_t count = 0;
  OK(pl_run(engine, imports, "cdef", 4, NULL, 0, &count, NULL));
  assert(count == 43);
  PlEngine *other = NULL;
  OK(pl_compile(NULL, "crc32c", NULL, &other));
  IS(pl_run(other, imports, "cdef", 4, NULL, 0, &count, NULL), PL_STATUS_FOREIGN_IMPORTS);
  pl_imports_free(imports);
  pl_engine_free(other);
  pl_engine_free(engine);

  PlOptions wrong = {.backend = 77}, features = {.features = "avx3"};
  IS(pl_compile(NULL, "crc32c", &wrong, &engine), PL_STATUS_ARGUMENT);
  IS(pl_compile(NULL, "crc32c", &features, &engine), PL_STATUS_ARGUMENT);
  return 0;
}

static int windows(void) {
  PlEngine *engine = NULL;
  OK(pl_compile(NULL, "crc32c per 4", NULL, &engine));
  assert(pl_export_windowed(engine, 0));
  PlRun *run = NULL;
  OK(pl_run_kept(engine, NULL, "aaaaaaaabb", 10, NULL, 0, 2, &run));
  const uint64_t *values = NULL;
  size_t count = 0;
  OK(pl_run_windows(run, "crc32c.crc", &values, &count));
  assert(count == 3 && values[0] == values[1] && values[1] != values[2]);
  uint64_t value = 0;
  IS(pl_run_export(run, "crc32c.crc", &value), PL_STATUS_WINDOWED);
  pl_run_free(run);
  pl_engine_free(engine);
  return 0;
}

/* Bytes instead of a number. */
static int digests(void) {
  PlEngine *engine = NULL;
  OK(pl_compile(NULL, "crc32c | sha1 | md5 per 2", NULL, &engine));
  assert(pl_export_bits(engine, 1) == 160 && pl_export_bits(engine, 2) == 128);
  PlRun *run = NULL;
  OK(pl_run_kept(engine, NULL, "abc", 3, NULL, 0, 1, &run));
  unsigned char bytes[20] = {0};
  OK(pl_run_digest(run, "sha1.digest", 0, bytes, sizeof bytes));
  assert(bytes[0] == 0xa9 && bytes[1] == 0x99 && bytes[19] == 0x9d);
  OK(pl_run_digest(run, "md5.digest", 1, bytes, sizeof bytes));
  assert(bytes[0] == 0x4a && bytes[15] == 0x33); /* of "c" */
  IS(pl_run_digest(run, "md5.digest", 2, bytes, sizeof bytes), PL_STATUS_ARGUMENT);
  IS(pl_run_digest(run, "sha1.digest", 0, bytes, 19), PL_STATUS_SHORT_DESTINATION);
  uint64_t value = 0;
  IS(pl_run_export(run, "sha1.digest", &value), PL_STATUS_USE);
  pl_run_free(run);
  pl_engine_free(engine);
  return 0;
}

/* Chunks of every size, into a frame and out of it again. */
static int streams(void) {
  PlEngine *whole = NULL, *add = NULL, *check = NULL;
  OK(pl_compile(NULL, "byteswap32 | crc32c", NULL, &whole));
  OK(pl_compile(NULL, "crc32 -> ethernet_fcs", NULL, &add));
  OK(pl_compile(NULL, "ethernet_fcs -> crc32", NULL, &check));
  char src[300], once[300], framed[304], back[304];
  for (int i = 0; i < 300; i++) src[i] = (char)(i * 7);
  uint64_t crc = 0;
  OK(pl_run(whole, NULL, src, 300, once, 300, &crc, NULL));
  for (size_t step = 1; step <= 300; step += 13) {
    PlStream *stream = NULL;
    OK(pl_stream(whole, NULL, false, &stream));
    char out[400];
    size_t at = 0, written = 0;
    for (size_t from = 0; from < 300; from += step) {
      size_t len = from + step < 300 ? step : 300 - from;
      assert(at + pl_stream_room(stream, len) <= sizeof out);
      OK(pl_stream_push(stream, src + from, len, out + at, sizeof out - at, &written));
      at += written;
    }
    PlRun *run = NULL;
    OK(pl_stream_finish(stream, out + at, sizeof out - at, &written, &run));
    assert(at + written == 300 && memcmp(out, once, 300) == 0);
    uint64_t value = 0;
    OK(pl_run_export(run, "crc32c.crc", &value));
    assert(value == crc);
    pl_run_free(run);
  }
  size_t written = 0;
  OK(pl_run(add, NULL, src, 300, framed, 304, NULL, &written));
  assert(written == 304);
  OK(pl_run(check, NULL, framed, 304, back, 300, NULL, &written));
  assert(written == 300 && memcmp(back, src, 300) == 0);
  framed[9] ^= 1;
  IS(pl_run(check, NULL, framed, 304, back, 300, NULL, NULL), PL_STATUS_MISMATCH);
  PlMismatch at = pl_mismatch();
  assert(at.offset == 300 && at.window == 0 && at.expected != at.found);

  PlStream *stream = NULL;
  OK(pl_stream(check, NULL, true, &stream));
  OK(pl_stream_push(stream, framed, 304, back, 304, &written));
  assert(written == 0);
  IS(pl_stream_finish(stream, back, 304, &written, NULL), PL_STATUS_MISMATCH);
  OK(pl_stream(check, NULL, false, &stream));
  pl_stream_free(stream);

  /* A stream whose output nobody wants. */
  OK(pl_stream(whole, NULL, false, &stream));
  OK(pl_stream_push(stream, src, 150, NULL, 0, NULL));
  OK(pl_stream_push(stream, src + 150, 150, NULL, 0, NULL));
  PlRun *run = NULL;
  OK(pl_stream_finish(stream, NULL, 0, &written, &run));
  uint64_t value = 0;
  OK(pl_run_export(run, "crc32c.crc", &value));
  assert(value == crc && written == 0);
  pl_run_free(run);
  pl_engine_free(whole);
  pl_engine_free(add);
  pl_engine_free(check);
  return 0;
}

int main(void) {
  int failed = whole_streams() || texts_and_options() || windows() || digests() || streams();
  pl_library_free(NULL);
  pl_engine_free(NULL);
  pl_imports_free(NULL);
  pl_run_free(NULL);
  pl_stream_free(NULL);
  puts(failed ? "failed" : "all as promised");
  return failed;
}
