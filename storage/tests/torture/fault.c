/* Fails some calls on files under OPTIPOD_FAULT_DIR: those from number OPTIPOD_FAULT_AT on,
 * OPTIPOD_FAULT_COUNT of them (1), with OPTIPOD_FAULT_ERRNO (EIO), counting paths with
 * OPTIPOD_FAULT_IN in them only. Calls that change something are counted; with
 * OPTIPOD_FAULT_READS those that look for, open and read files and folders, in their place, but no
 * read of a file that was read to its end before: the system has it in memory. Sends the process the
 * signal OPTIPOD_AIM_SIGNAL just before a call that changes something: OPTIPOD_AIM_AFTER calls
 * after the first whose path has OPTIPOD_AIM_AT in it. Says so on standard error. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static void aim(const char *path, const char *call) {
    static long begun, calls;
    const char *at = getenv("OPTIPOD_AIM_AT");
    if (!at) return;
    if (strstr(path, at)) __atomic_store_n(&begun, 1, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&begun, __ATOMIC_SEQ_CST)) return;
    if (__atomic_fetch_add(&calls, 1, __ATOMIC_SEQ_CST) != number("OPTIPOD_AIM_AFTER", 0)) return;
    dprintf(2, "aimed %s %s\n", call, path);
    kill(getpid(), (int)number("OPTIPOD_AIM_SIGNAL", SIGKILL));
}

enum kind { READS, CHANGES };

/* Paths of files that were read to their end. */
static struct cached {
    char *path;
    struct cached *next;
} *all_cached;

static int is_cached(const char *path) {
    struct cached *at = __atomic_load_n(&all_cached, __ATOMIC_SEQ_CST);
    while (at && strcmp(at->path, path) != 0) at = at->next;
    return at != NULL;
}

static void note_cached(const char *path) {
    struct cached *new = malloc(sizeof *new);
    if (!new || !(new->path = strdup(path))) return;
    new->next = __atomic_load_n(&all_cached, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(&all_cached, &new->next, new, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {}
}

static int is_hit(const char *path, const char *call, enum kind kind) {
    static long calls;
    const char *dir = getenv("OPTIPOD_FAULT_DIR"), *in = getenv("OPTIPOD_FAULT_IN");
    if (!dir || !path || strncmp(path, dir, strlen(dir)) != 0) return 0;
    if (kind == CHANGES) aim(path + strlen(dir), call);
    if ((kind == READS) != (getenv("OPTIPOD_FAULT_READS") != NULL)) return 0;
    if (kind == READS && strstr(call, "read") && is_cached(path)) return 0;
    if (in && !strstr(path, in)) return 0;
    long at = number("OPTIPOD_FAULT_AT", 0), n = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (n < at || n >= at + number("OPTIPOD_FAULT_COUNT", 1)) return 0;
    dprintf(2, "fault %ld %s %s\n", n, call, path + strlen(dir));
    errno = (int)number("OPTIPOD_FAULT_ERRNO", EIO);
    return 1;
}

/* What is at `path` now, or in it, is another. */
static void forget_cached(const char *path) {
    for (struct cached *at = __atomic_load_n(&all_cached, __ATOMIC_SEQ_CST); at; at = at->next)
        if (strncmp(at->path, path, strlen(path)) == 0) at->path[0] = 0;
}

/* Whether there is a path for it, with room for 4096. */
static int path_of(int fd, char *path) {
    char link[64];
    if (fd <= 2) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, 4095);
    if (len < 0) return 0;
    path[len] = 0;
    return 1;
}

static int is_hit_fd(int fd, const char *call, enum kind kind) {
    char path[4096];
    return path_of(fd, path) && is_hit(path, call, kind);
}

#define NEXT(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

#define ON_FD(kind, type, name, params, args, ...)                                     \
    type name params {                                                                 \
        return is_hit_fd(fd, #name, kind) ? -1 : NEXT(type, #name, __VA_ARGS__) args;  \
    }
ON_FD(READS, ssize_t, pread, (int fd, void *b, size_t n, off_t o), (fd, b, n, o), int, void *, size_t, off_t)
ON_FD(READS, ssize_t, pread64, (int fd, void *b, size_t n, off64_t o), (fd, b, n, o), int, void *, size_t, off64_t)
ON_FD(CHANGES, ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), int, const void *, size_t)
ON_FD(CHANGES, ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o), int, const void *, size_t, off_t)
ON_FD(CHANGES, ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), int, const void *, size_t, off64_t)
ON_FD(CHANGES, int, fsync, (int fd), (fd), int)
ON_FD(CHANGES, int, fdatasync, (int fd), (fd), int)
ON_FD(CHANGES, int, ftruncate, (int fd, off_t n), (fd, n), int, off_t)
ON_FD(CHANGES, int, ftruncate64, (int fd, off64_t n), (fd, n), int, off64_t)

ssize_t read(int fd, void *b, size_t n) {
    char path[4096];
    if (is_hit_fd(fd, "read", READS)) return -1;
    ssize_t got = NEXT(ssize_t, "read", int, void *, size_t)(fd, b, n);
    if (got == 0 && getenv("OPTIPOD_FAULT_READS") && path_of(fd, path) && !is_cached(path)) note_cached(path);
    return got;
}

struct dirent64 *readdir64(DIR *dir) {
    return is_hit_fd(dirfd(dir), "readdir64", READS) ? NULL : NEXT(struct dirent64 *, "readdir64", DIR *)(dir);
}

int statx(int fd, const char *path, int flags, unsigned mask, struct statx *to) {
    const char *volatile given = path; /* none where a caller tries whether there is this call */
    const char *name = given;
    int hit = name && (name[0] ? is_hit(name, "statx", READS) : is_hit_fd(fd, "statx", READS));
    return hit ? -1 : NEXT(int, "statx", int, const char *, int, unsigned, struct statx *)(fd, path, flags, mask, to);
}

int rename(const char *from, const char *to) {
    if (is_hit(to, "rename", CHANGES)) return -1;
    forget_cached(to);
    return NEXT(int, "rename", const char *, const char *)(from, to);
}

int mkdir(const char *path, mode_t mode) {
    return is_hit(path, "mkdir", CHANGES) ? -1 : NEXT(int, "mkdir", const char *, mode_t)(path, mode);
}

int unlink(const char *path) {
    return is_hit(path, "unlink", CHANGES) ? -1 : NEXT(int, "unlink", const char *)(path);
}

static int open_any(const char *name, const char *path, int flags, mode_t mode) {
    if (is_hit(path, "open", flags & O_CREAT ? CHANGES : READS)) return -1;
    return NEXT(int, name, const char *, int, ...)(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return open_any("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return open_any("open64", path, flags, mode);
}
