/* Programs behind the Cheetah server, in C: requests in, answers out of memory that both share.
 *
 * The server starts the program with a socket as its standard input (cheetah serve --program /prefix=COMMAND). Content of
 * answers is written into buffers that the server has mapped; it is never copied on its way into a frame. The messages are
 * described in src/wire.rs. Linux 3.17 or newer; numbers are the machine's, which must be little-endian. All in this header:
 * nothing to link.
 *
 *     struct cheetah c;
 *     struct cheetah_request request;
 *     if (cheetah_start(&c, 65536, 256) < 0) return 1;
 *     while (cheetah_next(&c, &request) > 0) {
 *         struct cheetah_part part = {0};
 *         if (cheetah_buffer(&c, &part) < 0) break;
 *         part.len = sprintf(part.bytes, "hello, %s\n", cheetah_param(&request, "REMOTE_ADDR"));
 *         cheetah_answer(&c, &request, "Content-Type: text/plain\n", &part, 1, 0);
 *     }
 *
 * Functions give -1 with errno set when something failed; then the program had best end. Not for several threads at once. */
#ifndef CHEETAH_PROGRAM_H
#define CHEETAH_PROGRAM_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE before the first #include: memfd_create is needed"
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHEETAH_MESSAGE 65536
#define CHEETAH_MAX_PARTS 512

/* What the program knows of a buffer. */
struct cheetah_slot {
    uint64_t generation;
    uint64_t uses; /* parts of it that are with the server */
    int held;      /* by the program: being filled, or kept */
};

/* A message that came while a buffer was waited for. */
struct cheetah_stored {
    struct cheetah_stored *next;
    size_t len;
    char bytes[];
};

struct cheetah {
    int socket;
    struct cheetah_stored *first, **last;
    char *memory;
    size_t buffer_bytes;
    unsigned buffers;
    struct cheetah_slot *slots;
    char message[CHEETAH_MESSAGE];
};

/* A request; what it points to is there until the next one. */
struct cheetah_request {
    uint32_t number;
    char *params; /* names and values, each ended by NUL */
    size_t params_len;
    char *content;
    size_t content_len;
};

/* Part of an answer: `len` bytes of a buffer from `start`. With `keep` the program goes on holding the buffer and may send it
 * again, until cheetah_release; without, it may not touch it after it was sent. */
struct cheetah_part {
    char *bytes; /* where the buffer begins */
    unsigned buffer;
    uint32_t start, len;
    int keep;
};

static inline void cheetah_put32(char **at, uint32_t n) { memcpy(*at, &n, 4); *at += 4; }
static inline void cheetah_put64(char **at, uint64_t n) { memcpy(*at, &n, 8); *at += 8; }

/* Begins, with `buffers` buffers of `buffer_bytes` each. */
static inline int cheetah_start(struct cheetah *c, size_t buffer_bytes, unsigned buffers)
{
    memset(c, 0, sizeof *c);
    c->socket = 0;
    c->buffer_bytes = buffer_bytes;
    c->buffers = buffers;
    c->last = &c->first;
    c->slots = (struct cheetah_slot *)calloc(buffers, sizeof *c->slots);
    int fd = memfd_create("shared-buffers", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (!c->slots || fd < 0 || ftruncate(fd, (off_t)(buffer_bytes * buffers)) < 0)
        return -1;
    void *memory = mmap(NULL, buffer_bytes * buffers, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -1;
    c->memory = (char *)memory;
    uint32_t hello[2] = {1, 1};
    union { struct cmsghdr align; char space[CMSG_SPACE(sizeof(int))]; } control;
    memset(&control, 0, sizeof control);
    struct iovec bytes = {hello, sizeof hello};
    struct msghdr message = {0};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    ssize_t sent = sendmsg(c->socket, &message, MSG_NOSIGNAL);
    close(fd);
    return sent < 0 ? -1 : 0;
}

/* The next message; its length, 0 when the server has ended. Buffers that came back are taken note of; while one of those is waited for, the
 * rest is stored. */
static inline ssize_t cheetah_hear(struct cheetah *c, int waits_for_buffer)
{
    ssize_t len;
    if (!waits_for_buffer && c->first) {
        struct cheetah_stored *stored = c->first;
        len = (ssize_t)stored->len;
        memcpy(c->message, stored->bytes, stored->len);
        if (!(c->first = stored->next))
            c->last = &c->first;
        free(stored);
        return len;
    }
    do
        len = recv(c->socket, c->message, sizeof c->message, 0);
    while (len < 0 && errno == EINTR);
    if (len < 8)
        return len <= 0 ? len : (errno = EPROTO, -1);
    uint32_t kind, count;
    memcpy(&kind, c->message, 4);
    memcpy(&count, c->message + 4, 4);
    for (uint32_t i = 0; kind == 3 && i < count && 8 + 24 * ((size_t)i + 1) <= (size_t)len; i++) {
        uint64_t id, generation, uses;
        memcpy(&id, c->message + 8 + 24 * (size_t)i, 8);
        memcpy(&generation, c->message + 16 + 24 * (size_t)i, 8);
        memcpy(&uses, c->message + 24 + 24 * (size_t)i, 8);
        if (id < c->buffers && c->slots[id].generation == generation)
            c->slots[id].uses -= uses < c->slots[id].uses ? uses : c->slots[id].uses;
    }
    if (waits_for_buffer && kind != 3) {
        struct cheetah_stored *stored = (struct cheetah_stored *)malloc(sizeof *stored + (size_t)len);
        if (!stored)
            return -1;
        stored->next = NULL;
        stored->len = (size_t)len;
        memcpy(stored->bytes, c->message, (size_t)len);
        *c->last = stored;
        c->last = &stored->next;
    }
    return len;
}

/* Waits for a request, with all of its content: 1, or 0 when the server has ended. Gives back the memory of the one before:
 * begin with one that is all zero. */
static inline int cheetah_next(struct cheetah *c, struct cheetah_request *r)
{
    free(r->params);
    free(r->content);
    memset(r, 0, sizeof *r);
    for (;;) {
        ssize_t len = cheetah_hear(c, 0);
        if (len <= 0)
            return (int)len;
        uint32_t kind;
        memcpy(&kind, c->message, 4);
        if (kind != 1 || len < 16)
            continue;
        uint64_t content_len;
        memcpy(&r->number, c->message + 4, 4);
        memcpy(&content_len, c->message + 8, 8);
        r->params_len = (size_t)len - 16;
        r->params = (char *)malloc(r->params_len + 1);
        r->content = (char *)malloc(content_len + 1);
        if (!r->params || !r->content)
            return -1;
        memcpy(r->params, c->message + 16, r->params_len);
        r->params[r->params_len] = 0;
        /* Its content comes right behind it. */
        while (r->content_len < content_len) {
            if ((len = cheetah_hear(c, 0)) <= 0)
                return (int)len;
            memcpy(&kind, c->message, 4);
            if (kind != 2)
                continue;
            size_t part = (size_t)len - 8;
            if (part > content_len - r->content_len)
                part = content_len - r->content_len;
            memcpy(r->content + r->content_len, c->message + 8, part);
            r->content_len += part;
        }
        return 1;
    }
}

/* The value of a parameter (PATH_INFO, QUERY_STRING, HTTP_COOKIE, ...); empty if there is none. */
static inline const char *cheetah_param(const struct cheetah_request *r, const char *name)
{
    const char *at = r->params, *end = r->params + r->params_len;
    while (at && at < end) {
        const char *value = at + strlen(at) + 1;
        if (value >= end)
            break;
        if (strcmp(at, name) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return "";
}

/* A buffer to fill; `part->bytes` is where. Waits for one to come back if all are in use. ENOBUFS: the program keeps all. */
static inline int cheetah_buffer(struct cheetah *c, struct cheetah_part *part)
{
    for (;;) {
        int away = 0;
        for (unsigned i = 0; i < c->buffers; i++) {
            away |= c->slots[i].uses > 0 && !c->slots[i].held;
            if (c->slots[i].uses > 0 || c->slots[i].held)
                continue;
            c->slots[i].generation++;
            c->slots[i].held = 1;
            memset(part, 0, sizeof *part);
            part->buffer = i;
            part->bytes = c->memory + c->buffer_bytes * i;
            return 0;
        }
        if (!away)
            return errno = ENOBUFS, -1;
        ssize_t len = cheetah_hear(c, 1);
        if (len <= 0)
            return len == 0 ? (errno = EPIPE, -1) : -1;
    }
}

/* The program does not hold the buffer any more; one that was kept, or was never sent. */
static inline void cheetah_release(struct cheetah *c, const struct cheetah_part *part)
{
    c->slots[part->buffer].held = 0;
}

/* Answers: lines of a head as a CGI program writes them, and parts of buffers. With `more` another answer to the same request
 * follows, without a head. */
static inline int cheetah_answer(struct cheetah *c, const struct cheetah_request *r, const char *head,
                                 const struct cheetah_part *parts, unsigned count, int more)
{
    size_t head_len = head ? strlen(head) : 0;
    if (head_len > 16384 || count > CHEETAH_MAX_PARTS)
        return errno = EINVAL, -1;
    char *at = c->message;
    cheetah_put32(&at, 2);
    cheetah_put32(&at, r->number);
    cheetah_put32(&at, more ? 1 : 0);
    cheetah_put32(&at, (uint32_t)head_len);
    cheetah_put32(&at, count);
    memcpy(at, head ? head : "", head_len);
    at += head_len;
    for (unsigned i = 0; i < count; i++) {
        const struct cheetah_part *part = &parts[i];
        if (part->buffer >= c->buffers || (uint64_t)part->start + part->len > c->buffer_bytes)
            return errno = EINVAL, -1;
        cheetah_put64(&at, part->buffer);
        cheetah_put64(&at, c->slots[part->buffer].generation);
        cheetah_put64(&at, (uint64_t)part->buffer * c->buffer_bytes);
        cheetah_put32(&at, (uint32_t)c->buffer_bytes);
        cheetah_put32(&at, part->start);
        cheetah_put32(&at, part->len);
        cheetah_put32(&at, part->keep ? 1 : 0);
        c->slots[part->buffer].uses++;
        c->slots[part->buffer].held = part->keep;
    }
    return send(c->socket, c->message, (size_t)(at - c->message), MSG_NOSIGNAL) < 0 ? -1 : 0;
}

#endif
