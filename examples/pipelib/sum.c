/* The Internet checksum and the CRC32C of a file, and a copy of it with each byte as the difference from the
 * one before, in one read. Build the library by `cargo build --release -p pipelib-c`, then
 *
 *   cc -O2 -Ibindings/c/include examples/pipelib/sum.c -Ltarget/release -lpipelib -Wl,-rpath,target/release -o sum
 *   ./sum README.md /tmp/differences
 */
#include "pipelib.h"

#include <stdio.h>
#include <stdlib.h>

static void stop(const char *what) {
  fprintf(stderr, "%s: %s\n", what, pl_message());
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s FROM TO\n", argv[0]);
    return 2;
  }
  FILE *from = fopen(argv[1], "rb"), *to = fopen(argv[2], "wb");
  if (!from || !to) {
    perror(from ? argv[2] : argv[1]);
    return 1;
  }
  PlEngine *engine;
  if (pl_compile(NULL, "inet_cksum as sum | crc32c | delta8", NULL, &engine) != PL_STATUS_OK) stop("compiling");
  PlStream *stream;
  if (pl_stream(engine, NULL, false, &stream) != PL_STATUS_OK) stop("starting");

  static char chunk[1 << 16], out[(1 << 16) + 64];
  size_t len, written;
  while ((len = fread(chunk, 1, sizeof chunk, from)) > 0) {
    if (pl_stream_push(stream, chunk, len, out, sizeof out, &written) != PL_STATUS_OK) stop("pushing");
    fwrite(out, 1, written, to);
  }
  PlRun *run;
  if (pl_stream_finish(stream, out, sizeof out, &written, &run) != PL_STATUS_OK) stop("finishing");
  fwrite(out, 1, written, to);
  if (fclose(to) != 0) {
    perror(argv[2]);
    return 1;
  }

  for (size_t i = 0; i < pl_export_count(engine); i++) {
    uint64_t value;
    if (pl_run_export(run, pl_export_name(engine, i), &value) != PL_STATUS_OK) stop("asking");
    printf("%s = %#llx\n", pl_export_name(engine, i), (unsigned long long)value);
  }
  pl_run_free(run);
  pl_engine_free(engine);
  fclose(from);
  return 0;
}
