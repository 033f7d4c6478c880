/* Fails some calls on files under OPTIPOD_FAULT_DIR: those from number OPTIPOD_FAULT_AT on,
 * OPTIPOD_FAULT_COUNT of them (1), with OPTIPOD_FAULT_ERRNO (EIO), counting paths with
 * OPTIPOD_FAULT_IN in them only. Sends the process the signal
 * OPTIPOD_AIM_SIGNAL just before a call: OPTIPOD_AIM_AFTER calls after the first whose path has
 * OPTIPOD_AIM_AT in it. Calls that change something are counted. Says so on standard error. */
#define _GNU_SOURCE
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

static int is_hit(const char *path, const char *call) {
    static long calls;
    const char *dir = getenv("OPTIPOD_FAULT_DIR"), *in = getenv("OPTIPOD_FAULT_IN");
    if (!dir || !path || strncmp(path, dir, strlen(dir)) != 0) return 0;
    aim(path + strlen(dir), call);
    if (in && !strstr(path, in)) return 0;
    long at = number("OPTIPOD_FAULT_AT", 0), n = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (n < at || n >= at + number("OPTIPOD_FAULT_COUNT", 1)) return 0;
    dprintf(2, "fault %ld %s %s\n", n, call, path + strlen(dir));
    errno = (int)number("OPTIPOD_FAULT_ERRNO", EIO);
    return 1;
}

static int is_hit_fd(int fd, const char *call) {
    char link[64], path[4096];
    if (fd <= 2) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return is_hit(path, call);
}

#define NEXT(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

#define ON_FD(type, name, params, args, ...)                                     \
    type name params {                                                           \
        return is_hit_fd(fd, #name) ? -1 : NEXT(type, #name, __VA_ARGS__) args;  \
    }
ON_FD(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), int, const void *, size_t)
ON_FD(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o), int, const void *, size_t, off_t)
ON_FD(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), int, const void *, size_t, off64_t)
ON_FD(int, fsync, (int fd), (fd), int)
ON_FD(int, fdatasync, (int fd), (fd), int)
ON_FD(int, ftruncate, (int fd, off_t n), (fd, n), int, off_t)
ON_FD(int, ftruncate64, (int fd, off64_t n), (fd, n), int, off64_t)

int rename(const char *from, const char *to) {
    return is_hit(to, "rename") ? -1 : NEXT(int, "rename", const char *, const char *)(from, to);
}

int mkdir(const char *path, mode_t mode) {
    return is_hit(path, "mkdir") ? -1 : NEXT(int, "mkdir", const char *, mode_t)(path, mode);
}

int unlink(const char *path) {
    return is_hit(path, "unlink") ? -1 : NEXT(int, "unlink", const char *)(path);
}

static int open_any(const char *name, const char *path, int flags, mode_t mode) {
    if ((flags & O_CREAT) && is_hit(path, "open")) return -1;
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
