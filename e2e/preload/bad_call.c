/* For LD_PRELOAD: counts the calls that change files below the directory BAD_CALL_UNDER, and at the call
 * number BAD_CALL_AT does what BAD_CALL_WHAT says:
 *   kill    ends the process before the call
 *   torn    the same, but of a write the first half is written, to a whole sector of 512 bytes: disks and
 *           the page cache tear no finer
 *   eio, enospc   that one call fails
 *   power   the power goes: of what was written and not synced, each sector is lost or kept as
 *           BAD_CALL_SEED says; of creations, renames and removals whose directory was not synced, those
 *           after some point; then the process ends
 * The file BAD_CALL_TOLD, of 4096 bytes, holds the count (the first 8 bytes, in the machine's order), and
 * from byte 8 on what the call was, once it was struck. */
#define _GNU_SOURCE
#include "unsynced.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { TOLD_BYTES = 4096, NAME_AT = 8 };
enum fate { GO_ON, TEAR, FAIL };

static struct {
  const char *under, *what;
  unsigned long at;
  _Atomic unsigned long *count;
  char *name;
} plan;

__attribute__((constructor)) static void begin(void) {
  const char *told = getenv("BAD_CALL_TOLD"), *at = getenv("BAD_CALL_AT");
  int fd = told ? open(told, O_RDWR) : -1;
  char *shared;
  if (fd < 0) return;
  shared = mmap(NULL, TOLD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (shared == MAP_FAILED) return;
  plan.at = at ? strtoul(at, NULL, 10) : 0;
  plan.what = getenv("BAD_CALL_WHAT");
  plan.name = shared + NAME_AT;
  plan.count = (_Atomic unsigned long *)shared;
  plan.under = getenv("BAD_CALL_UNDER");
  if (plan.under && plan.what && strcmp(plan.what, "power") == 0) {
    const char *seed = getenv("BAD_CALL_SEED");
    unsynced_begin(plan.under, seed ? strtoull(seed, NULL, 10) : 0);
  }
}

static enum fate strike(const char *call, const char *path) {
  unsigned long number;
  if (!plan.under || !plan.what || strncmp(path, plan.under, strlen(plan.under)) != 0) return GO_ON;
  number = atomic_fetch_add(plan.count, 1) + 1;
  if (number != plan.at) return GO_ON;
  snprintf(plan.name, TOLD_BYTES - NAME_AT, "%s %s", call, path);
  if (strcmp(plan.what, "kill") == 0) kill(getpid(), SIGKILL);
  if (strcmp(plan.what, "torn") == 0) return TEAR;
  if (strcmp(plan.what, "power") == 0) unsynced_lose();
  errno = strcmp(plan.what, "enospc") == 0 ? ENOSPC : EIO;
  return FAIL;
}

static enum fate strike_fd(const char *call, int fd) {
  char link[64], path[PATH_MAX];
  ssize_t length;
  if (!plan.under) return GO_ON;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  length = readlink(link, path, sizeof path - 1);
  if (length < 0) return GO_ON;
  path[length] = 0;
  return strike(call, path);
}

static enum fate strike_at(const char *call, int dir, const char *name) {
  char link[64], base[PATH_MAX], path[2 * PATH_MAX];
  ssize_t length;
  if (!plan.under) return GO_ON;
  if (name[0] == '/' || dir == AT_FDCWD) return strike(call, name);
  snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
  length = readlink(link, base, sizeof base - 1);
  if (length < 0) return GO_ON;
  base[length] = 0;
  snprintf(path, sizeof path, "%s/%s", base, name);
  return strike(call, path);
}

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))
#define END() kill(getpid(), SIGKILL)

/* A call that is done or not done. What it changes is noted until it is synced. */
#define WHOLE(name, parameters, arguments, struck, noted)  \
  int name parameters {                                    \
    enum fate fate = struck;                               \
    int done;                                              \
    if (fate == TEAR) END();                               \
    if (fate == FAIL) return -1;                           \
    unsynced_lock();                                       \
    noted;                                                 \
    done = REAL(name) arguments;                           \
    unsynced_unlock();                                     \
    return done;                                           \
  }

/* A sync holds nobody up, and what came while it ran may be lost. */
#define SYNC(name)                                         \
  int name(int fd) {                                       \
    enum fate fate = strike_fd(#name, fd);                 \
    unsigned long until;                                   \
    int done;                                              \
    if (fate == TEAR) END();                               \
    if (fate == FAIL) return -1;                           \
    until = unsynced_now();                                \
    done = REAL(name)(fd);                                 \
    if (done == 0) unsynced_synced(fd, until);             \
    return done;                                           \
  }

SYNC(fsync)
SYNC(fdatasync)
WHOLE(ftruncate, (int fd, off_t length), (fd, length), strike_fd("ftruncate", fd), unsynced_write(fd, length, (size_t)-1))
WHOLE(ftruncate64, (int fd, off64_t length), (fd, length), strike_fd("ftruncate", fd), unsynced_write(fd, length, (size_t)-1))
WHOLE(fallocate, (int fd, int mode, off_t at, off_t length), (fd, mode, at, length), strike_fd("fallocate", fd), unsynced_write(fd, at, 0))
WHOLE(fallocate64, (int fd, int mode, off64_t at, off64_t length), (fd, mode, at, length), strike_fd("fallocate", fd), unsynced_write(fd, at, 0))
WHOLE(rename, (const char *from, const char *to), (from, to), strike("rename", from), unsynced_rename(AT_FDCWD, from, AT_FDCWD, to))
WHOLE(renameat, (int d, const char *from, int e, const char *to), (d, from, e, to), strike_at("rename", d, from), unsynced_rename(d, from, e, to))
WHOLE(unlink, (const char *path), (path), strike("unlink", path), unsynced_unlink(AT_FDCWD, path, 0))
WHOLE(unlinkat, (int dir, const char *path, int flags), (dir, path, flags), strike_at("unlink", dir, path), unsynced_unlink(dir, path, flags))
WHOLE(rmdir, (const char *path), (path), strike("rmdir", path), unsynced_unlink(AT_FDCWD, path, AT_REMOVEDIR))
WHOLE(mkdir, (const char *path, mode_t mode), (path, mode), strike("mkdir", path), unsynced_create(AT_FDCWD, path, 1))
WHOLE(link, (const char *from, const char *to), (from, to), strike("link", to), unsynced_create(AT_FDCWD, to, 0))
WHOLE(linkat, (int d, const char *from, int e, const char *to, int flags), (d, from, e, to, flags), strike_at("link", e, to), unsynced_create(e, to, 0))

/* How much of a torn write at this place is written. */
static size_t half(size_t count, off64_t at) {
  off64_t end = (at + (off64_t)(count / 2)) / 512 * 512;
  return end > at ? (size_t)(end - at) : 0;
}

/* A write, of which half may be done. */
#define WRITE(name, parameters, place, bytes_of, whole, first) \
  ssize_t name parameters {                                    \
    enum fate fate = strike_fd(#name, fd);                     \
    ssize_t done;                                              \
    if (fate == TEAR) {                                        \
      if (REAL(name) first < 0) END();                         \
      END();                                                   \
    }                                                          \
    if (fate == FAIL) return -1;                               \
    unsynced_lock();                                           \
    unsynced_write(fd, place, bytes_of);                       \
    done = REAL(name) whole;                                   \
    unsynced_unlock();                                         \
    return done;                                               \
  }

static size_t bytes_in(const struct iovec *parts, int count) {
  size_t bytes = 0;
  for (int i = 0; i < count; i++) bytes += parts[i].iov_len;
  return bytes;
}

WRITE(write, (int fd, const void *bytes, size_t count), -1, count, (fd, bytes, count), (fd, bytes, count / 2))
WRITE(pwrite, (int fd, const void *bytes, size_t count, off_t at), at, count, (fd, bytes, count, at), (fd, bytes, half(count, at), at))
WRITE(pwrite64, (int fd, const void *bytes, size_t count, off64_t at), at, count, (fd, bytes, count, at), (fd, bytes, half(count, at), at))
WRITE(writev, (int fd, const struct iovec *parts, int count), -1, bytes_in(parts, count), (fd, parts, count), (fd, parts, (count + 1) / 2))
WRITE(pwritev, (int fd, const struct iovec *parts, int count, off_t at), at, bytes_in(parts, count), (fd, parts, count, at), (fd, parts, (count + 1) / 2, at))
WRITE(pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), at, bytes_in(parts, count), (fd, parts, count, at), (fd, parts, (count + 1) / 2, at))

/* Opening to create or to empty. */
#define OPEN(name, parameters, last, struck, arguments, noted)     \
  int name parameters {                                            \
    enum fate fate = GO_ON;                                        \
    mode_t mode = 0;                                               \
    if (flags & (O_CREAT | O_TRUNC)) {                             \
      va_list rest;                                                \
      va_start(rest, last);                                        \
      mode = va_arg(rest, mode_t);                                 \
      va_end(rest);                                                \
      fate = struck;                                               \
    }                                                              \
    if (fate == TEAR) END();                                       \
    if (fate == FAIL) return -1;                                   \
    if (!(flags & (O_CREAT | O_TRUNC))) return REAL(name) arguments; \
    unsynced_lock();                                               \
    noted;                                                         \
    int fd = REAL(name) arguments;                                 \
    unsynced_unlock();                                             \
    return fd;                                                     \
  }

OPEN(open, (const char *path, int flags, ...), flags, strike("open", path), (path, flags, mode), unsynced_open(AT_FDCWD, path, flags))
OPEN(open64, (const char *path, int flags, ...), flags, strike("open", path), (path, flags, mode), unsynced_open(AT_FDCWD, path, flags))
OPEN(openat, (int dir, const char *path, int flags, ...), flags, strike_at("open", dir, path), (dir, path, flags, mode), unsynced_open(dir, path, flags))
OPEN(openat64, (int dir, const char *path, int flags, ...), flags, strike_at("open", dir, path), (dir, path, flags, mode), unsynced_open(dir, path, flags))
