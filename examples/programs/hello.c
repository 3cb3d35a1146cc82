/* A program behind Cheetah, in C.
 *
 *     cc -O2 -I cheetah/program/include -o hello examples/programs/hello.c
 *     cheetah serve site --program /hello=./hello
 *
 * /hello/N gives N lines; anything else gives back the content that was sent. */
#define _GNU_SOURCE
#include <stdio.h>

#include "cheetah_program.h"

#define BUFFER_BYTES 65536

int main(void)
{
    static struct cheetah c;
    struct cheetah_request request = {0};
    if (cheetah_start(&c, BUFFER_BYTES, 64) < 0) {
        perror("no server at the standard input");
        return 1;
    }
    while (cheetah_next(&c, &request) > 0) {
        long lines = atol(cheetah_param(&request, "PATH_INFO") + 1);
        const char *head = "Content-Type: text/plain\n";
        size_t at = 0;
        long line = 0;
        int more;
        do {
            struct cheetah_part part;
            if (cheetah_buffer(&c, &part) < 0) {
                perror("no buffer");
                return 1;
            }
            if (lines > 0) {
                while (line < lines && part.len + 32 < BUFFER_BYTES)
                    part.len += (uint32_t)sprintf(part.bytes + part.len, "line %ld\n", ++line);
                more = line < lines;
            } else {
                size_t len = request.content_len - at < BUFFER_BYTES ? request.content_len - at : BUFFER_BYTES;
                memcpy(part.bytes, request.content + at, len);
                part.len = (uint32_t)len;
                more = (at += len) < request.content_len;
            }
            if (cheetah_answer(&c, &request, head, &part, 1, more) < 0) {
                perror("no answer");
                return 1;
            }
            head = "";
        } while (more);
    }
    return 0;
}
