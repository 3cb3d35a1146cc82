/* The pipe language and its run-time compiler: small data-manipulation steps ("pipes"), composed at
 * run time into one machine-code loop. Made of the library's text; link with -lpipelib.
 *
 * Handles are given out by one function and freed by another. Engines may be used by any number of
 * threads at once, all else by one at a time. Texts are UTF-8 and end with a zero.
 */

#ifndef PIPELIB_H
#define PIPELIB_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/**
 * How a call ended. Unless it is PL_STATUS_OK, pl_message() says what was wrong and what to write instead.
 */
typedef enum {
  /**
   * As asked for.
   */
  PL_STATUS_OK = 0,
  /**
   * A null pointer, text that is not UTF-8, or a name with a zero in it.
   */
  PL_STATUS_ARGUMENT,
  /**
   * Something is wrong in a text in the pipe language; the message says where.
   */
  PL_STATUS_TEXT,
  /**
   * The backend asked for does not take the pipeline.
   */
  PL_STATUS_UNSUPPORTED,
  /**
   * No export or register of that name.
   */
  PL_STATUS_NO_SUCH_NAME,
  /**
   * The value does not fit the register.
   */
  PL_STATUS_VALUE_TOO_WIDE,
  /**
   * The register is secret: it can be set, and not be asked for.
   */
  PL_STATUS_SECRET,
  /**
   * The export is one value where a list was asked for, or a list where one value was.
   */
  PL_STATUS_WINDOWED,
  /**
   * The imports were made for another engine.
   */
  PL_STATUS_FOREIGN_IMPORTS,
  /**
   * The destination is too small. Nothing was written.
   */
  PL_STATUS_SHORT_DESTINATION,
  /**
   * Source and destination overlap without being the same. Nothing was written.
   */
  PL_STATUS_OVERLAP,
  /**
   * A length that no stream of this pipeline has. Nothing was written.
   */
  PL_STATUS_LENGTH,
  /**
   * A device's buffer that does not lie as its layout demands. Nothing was written.
   */
  PL_STATUS_MISALIGNED,
  /**
   * This use does not go with the layout or the frame at an end of the pipeline. Nothing was written.
   */
  PL_STATUS_USE,
  /**
   * A field of a frame holds something else than it should; pl_mismatch() has the numbers. What came
   * before the bad window was written.
   */
  PL_STATUS_MISMATCH,
  /**
   * A fault of this library: please report the message.
   */
  PL_STATUS_BUG,
} PlStatus;

/**
 * Where the code comes from.
 */
typedef enum {
  /**
   * The fastest one that takes the pipeline on this machine.
   */
  PL_BACKEND_AUTO = 0,
  /**
   * The word-at-a-time interpreter: takes everything.
   */
  PL_BACKEND_INTERP,
  /**
   * Portable machine code, in libraries that were built with it.
   */
  PL_BACKEND_CRANELIFT,
  /**
   * Our own x86-64 emitter.
   */
  PL_BACKEND_NATIVE,
} PlBackend;

/**
 * A pipeline ready to run. Any number of threads may use one at once.
 */
typedef struct PlEngine PlEngine;

/**
 * What a run starts from, in place of the initial values that the pipes state.
 */
typedef struct PlImports PlImports;

/**
 * Pipes, layouts, frames and named pipelines that texts refer to by name.
 */
typedef struct PlLibrary PlLibrary;

/**
 * The outcome of a run.
 */
typedef struct PlRun PlRun;

/**
 * A stream under way.
 */
typedef struct PlStream PlStream;

/**
 * How to compile. All of it 0 is the fastest code that this machine can run.
 */
typedef struct {
  /**
   * Where the code comes from: a PlBackend.
   */
  uint32_t backend;
  /**
   * Each stage in a pass of its own over blocks of the first-level cache: what fusion is compared with.
   */
  bool separate_passes;
  /**
   * Each stage as it was written, word after word: what vectors are compared with.
   */
  bool serial;
  /**
   * The instructions that the native backend may use, "avx2,pclmul"; null for all there are.
   */
  const char *features;
} PlOptions;

/**
 * A piece of a stream: as `struct iovec` has it.
 */
typedef struct {
  /**
   * Where it begins; anything if there are no bytes.
   */
  void *data;
  /**
   * Bytes.
   */
  size_t len;
} PlPiece;

/**
 * What a field of a frame held, and should have held.
 */
typedef struct {
  /**
   * Number of the window, from 0.
   */
  uint64_t window;
  /**
   * Where the field begins in the source, or, of bytes, the first that differs.
   */
  uint64_t offset;
  /**
   * What the field should hold.
   */
  uint64_t expected;
  /**
   * What it holds.
   */
  uint64_t found;
  /**
   * Bytes of the stream in the windows before this one, all of them as they should be.
   */
  uint64_t good;
} PlMismatch;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The standard pipes and layouts, and by name the CRCs of the catalogue. Freed by pl_library_free().
 */
PlLibrary *pl_library_standard(void);

/**
 * Adds the items of `source`, a text in the pipe language; `name` stands for it in messages. If it ends with
 * anything but PL_STATUS_OK, nothing was added. Nobody else uses the library meanwhile.
 */
PlStatus pl_library_load(PlLibrary *library, const char *name, const char *source);

/**
 * Frees a library; engines made from it live on. Null is nothing.
 */
void pl_library_free(PlLibrary *library);

/**
 * Composes and compiles `pipeline`, "inet_cksum as sum | byteswap32 | crc32c", out of the pipes of `library`
 * (null: the standard ones), as `options` say (null: for speed). `*engine` is freed by pl_engine_free(), and
 * is null if this ends with anything but PL_STATUS_OK. Of the same pipeline the process compiles one.
 */
PlStatus pl_compile(const PlLibrary *library,
                    const char *pipeline,
                    const PlOptions *options,
                    PlEngine **engine);

/**
 * Frees an engine. Null is nothing.
 */
void pl_engine_free(PlEngine *engine);

/**
 * How many results a run has.
 */
size_t pl_export_count(const PlEngine *engine);

/**
 * The name "instance.name" of result `index`, in stream order; null behind the last. Good as long as the
 * engine.
 */
const char *pl_export_name(const PlEngine *engine, size_t index);

/**
 * Bits of result `index`, of a digest all of them; 0 behind the last.
 */
uint32_t pl_export_bits(const PlEngine *engine, size_t index);

/**
 * Whether result `index` is a list, one entry a window.
 */
bool pl_export_windowed(const PlEngine *engine, size_t index);

/**
 * The name "instance.name" of register `index`, for pl_imports_set(); null behind the last. Good as long as
 * the engine.
 */
const char *pl_register_name(const PlEngine *engine, size_t index);

/**
 * Where the code comes from: "native", "cranelift" or "interp". Good as long as the engine; null of null.
 */
const char *pl_engine_backend(const PlEngine *engine);

/**
 * Bytes of output that a source of `len` bytes gives, holes of layouts and fields of frames counted: what
 * the destination of pl_run() needs room for. An error for a length that no stream has.
 */
PlStatus pl_out_len(const PlEngine *engine, size_t len, size_t *bytes);

/**
 * Imports for `engine` with every register at its initial value; null only of null. Freed by
 * pl_imports_free(), keys among them overwritten.
 */
PlImports *pl_imports(const PlEngine *engine);

/**
 * Sets the register `name`, "instance.name".
 */
PlStatus pl_imports_set(PlImports *imports, const char *name, uint64_t value);

/**
 * Frees imports. Null is nothing.
 */
void pl_imports_free(PlImports *imports);

/**
 * Copies `len` bytes at `src` to `dst`, where there is room for `room` bytes, through the pipeline.
 *
 * With `dst` null nothing is written, and only the results are computed; with `dst` = `src` the bytes are
 * changed in place, and with a frame `len` is what the buffer holds with its fields. Otherwise the two do
 * not overlap. The room that is needed is what pl_out_len() says.
 *
 * `imports` may be null. `values` is null, or has room for pl_export_count() results, in stream order: of a
 * windowed one the number of its windows, of a digest 0. `written`, if it is not null, gets the bytes
 * written.
 *
 * Nothing is allocated but for pipelines with windows, or with more than eight registers.
 */
PlStatus pl_run(const PlEngine *engine,
                const PlImports *imports,
                const void *src,
                size_t len,
                void *dst,
                size_t room,
                uint64_t *values,
                size_t *written);

/**
 * pl_run() on up to `threads` threads, whose outcome is kept: lists of windows and registers, too. Long
 * streams are cut into parts of at least 2 MiB; the result is the same to the bit. `*run` is freed by
 * pl_run_free(), and is null if this ends with anything but PL_STATUS_OK.
 */
PlStatus pl_run_kept(const PlEngine *engine,
                     const PlImports *imports,
                     const void *src,
                     size_t len,
                     void *dst,
                     size_t room,
                     size_t threads,
                     PlRun **run);

/**
 * Gathers the stream from the pieces of `src`, in order, and scatters it over those of `dst`, which may be
 * cut anywhere, in the midst of a word as well: buffers as network stacks have them. With no pieces at
 * `dst`, only the results are computed. No two pieces overlap. `*run` as of pl_run_kept().
 */
PlStatus pl_run_pieces(const PlEngine *engine,
                       const PlImports *imports,
                       const PlPiece *src,
                       size_t src_count,
                       const PlPiece *dst,
                       size_t dst_count,
                       PlRun **run);

/**
 * Bytes of the stream that the run read; 0 of null.
 */
size_t pl_run_read(const PlRun *run);

/**
 * Bytes that the run wrote, from the start of the destination; 0 of null.
 */
size_t pl_run_written(const PlRun *run);

/**
 * The result `name`, "instance.name", that is one value.
 */
PlStatus pl_run_export(const PlRun *run, const char *name, uint64_t *value);

/**
 * The result `name` that has one value a window: `*count` of them at `*values`, which are good as long as
 * the run.
 */
PlStatus pl_run_windows(const PlRun *run, const char *name, const uint64_t **values, size_t *count);

/**
 * The digest `name`, "instance.digest", of window `window` (0 without windows): its bytes go to `bytes`,
 * where there is room for `room`, which are pl_export_bits() / 8 at least.
 */
PlStatus pl_run_digest(const PlRun *run, const char *name, size_t window, void *bytes, size_t room);

/**
 * The final value of the register `name`. Imported into a later run, it goes on where this one stopped.
 */
PlStatus pl_run_register(const PlRun *run, const char *name, uint64_t *value);

/**
 * Frees a run. Null is nothing.
 */
void pl_run_free(PlRun *run);

/**
 * What was wrong with the last call of this thread that did not end with PL_STATUS_OK, in UTF-8: of a text,
 * with line and column. Good until the next such call of the thread; "" if there was none.
 */
const char *pl_message(void);

/**
 * The numbers of the last PL_STATUS_MISMATCH of this thread.
 */
PlMismatch pl_mismatch(void);

/**
 * A stream through `engine` that starts from `imports` (null: from the initial values). With `hold_back`,
 * nothing of a frame's window is given out before all its fields were found to hold what they should.
 * `*stream` is freed by pl_stream_finish() or pl_stream_free(), and is null if this ends with anything but
 * PL_STATUS_OK.
 */
PlStatus pl_stream(const PlEngine *engine, const PlImports *imports, bool hold_back, PlStream **stream);

/**
 * Bytes of room that a chunk of `len` bytes needs in pl_stream_push(), and, with `len` 0, what
 * pl_stream_finish() may; 0 of null or of what cannot be addressed.
 */
size_t pl_stream_room(const PlStream *stream, size_t len);

/**
 * Puts the next `len` bytes at `chunk` into the stream, and what it gives out for them at `out`, where there
 * is room for `room` bytes: as many as pl_stream_room() says. `written`, if it is not null, gets how many
 * there were: not always `len`, since the bytes of an unfinished word wait. `out` = null and `room` = 0 for
 * a stream whose output nobody wants. Chunk and `out` do not overlap.
 *
 * Unless it is PL_STATUS_OK, nothing was written and the stream is where it was; after PL_STATUS_MISMATCH, what was
 * written is what came before it, and all further chunks are refused.
 */
PlStatus pl_stream_push(PlStream *stream,
                        const void *chunk,
                        size_t len,
                        void *out,
                        size_t room,
                        size_t *written);

/**
 * Ends the stream and frees it, whatever comes of it: leftover bytes, last windows, results. What was held
 * back goes to `out`, where there is room for `room` bytes (as pl_stream_room() with `len` 0 says);
 * `written`, if it is not null, gets how many there were. `*run`, if `run` is not null, has the results. `out` = null
 * and `room` = 0 for a stream whose output nobody wants.
 */
PlStatus pl_stream_finish(PlStream *stream,
                          void *out,
                          size_t room,
                          size_t *written,
                          PlRun **run);

/**
 * Gives a stream up. Null is nothing.
 */
void pl_stream_free(PlStream *stream);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PIPELIB_H */
