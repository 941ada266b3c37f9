/* See unsynced.h. Each change has a record with what undoes it, newest first. */
#define _GNU_SOURCE
#include "unsynced.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SECTOR = 512 };
enum kind { DATA, CREATED, CREATED_DIR, REMOVED, REMOVED_DIR, MOVED };

struct change {
  struct change *older;
  unsigned long number;
  enum kind kind;
  /* Of DATA: the file, what stood where, and its length. */
  dev_t device;
  ino_t inode;
  int fd;
  off64_t at, length;
  size_t count;
  char *bytes;
  /* Of names: the name, where it was before, and a copy of what the name was. */
  char *path, *from, *kept;
};

static const char *under;
static unsigned long long seed;
static unsigned long changes_made, copies_made;
static struct change *newest;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The system's own calls: the library's stand before the C library's. */
static int sys_open(const char *path, int flags) { return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600); }
static int sys_rename(const char *from, const char *to) { return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0); }
static int sys_link(const char *from, const char *to) { return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0); }
static int sys_unlink(const char *path, int flags) { return (int)syscall(SYS_unlinkat, AT_FDCWD, path, flags); }

void unsynced_begin(const char *directory, unsigned long long given) {
  under = directory;
  seed = given * 0x9e3779b97f4a7c15ULL + 1;
}

void unsynced_lock(void) { if (under) pthread_mutex_lock(&lock); }
void unsynced_unlock(void) { if (under) pthread_mutex_unlock(&lock); }

static int is_under(const char *path) {
  size_t length = strlen(under);
  return strncmp(path, under, length) == 0 && (path[length] == 0 || path[length] == '/');
}

static int path_of(int fd, char *path) {
  char link[64];
  ssize_t length;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return -1;
  path[length] = 0;
  return 0;
}

static int whole_path(int dir, const char *name, char *path) {
  char base[PATH_MAX];
  if (name[0] == '/' || dir == AT_FDCWD) {
    snprintf(path, 2 * PATH_MAX, "%s", name);
    return 0;
  }
  if (path_of(dir, base) != 0) return -1;
  snprintf(path, 2 * PATH_MAX, "%s/%s", base, name);
  return 0;
}

static struct change *note(enum kind kind) {
  struct change *change = calloc(1, sizeof *change);
  if (!change) abort();
  change->kind = kind;
  change->number = ++changes_made;
  change->fd = -1;
  change->older = newest;
  newest = change;
  return change;
}

static void note_data(const char *path, off64_t at, size_t count) {
  struct stat status;
  struct change *change;
  int fd = sys_open(path, O_RDWR);
  if (fd < 0) return;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    return;
  }
  change = note(DATA);
  change->device = status.st_dev;
  change->inode = status.st_ino;
  change->fd = fd;
  change->at = at;
  change->length = status.st_size;
  if (at < status.st_size && count > 0) {
    size_t there = (size_t)(status.st_size - at);
    change->count = count < there ? count : there;
    change->bytes = malloc(change->count);
    if (!change->bytes || pread(fd, change->bytes, change->count, at) != (ssize_t)change->count) abort();
  }
}

void unsynced_write(int fd, off64_t at, size_t count) {
  char path[PATH_MAX];
  struct stat status;
  if (!under || path_of(fd, path) != 0 || !is_under(path) || fstat(fd, &status) != 0) return;
  if (at < 0) at = fcntl(fd, F_GETFL) & O_APPEND ? status.st_size : lseek(fd, 0, SEEK_CUR);
  note_data(path, at, count);
}

/* A second name for what a name stands for, so that it can come back. */
static char *keep(const char *path) {
  char kept[PATH_MAX];
  snprintf(kept, sizeof kept, "%s.lost-%lu", under, ++copies_made);
  return sys_link(path, kept) == 0 ? strdup(kept) : NULL;
}

void unsynced_create(int dir, const char *name, int is_dir) {
  char path[2 * PATH_MAX];
  if (!under || whole_path(dir, name, path) != 0 || !is_under(path) || access(path, F_OK) == 0) return;
  note(is_dir ? CREATED_DIR : CREATED)->path = strdup(path);
}

void unsynced_open(int dir, const char *name, int flags) {
  char path[2 * PATH_MAX];
  struct stat status;
  if (!under || whole_path(dir, name, path) != 0 || !is_under(path)) return;
  if (stat(path, &status) != 0) {
    if (flags & O_CREAT) unsynced_create(AT_FDCWD, path, 0);
  } else if (flags & O_TRUNC) {
    note_data(path, 0, (size_t)status.st_size);
  }
}

void unsynced_unlink(int dir, const char *name, int flags) {
  char path[2 * PATH_MAX];
  struct change *change;
  if (!under || whole_path(dir, name, path) != 0 || !is_under(path) || access(path, F_OK) != 0) return;
  change = note(flags & AT_REMOVEDIR ? REMOVED_DIR : REMOVED);
  change->path = strdup(path);
  if (change->kind == REMOVED) change->kept = keep(path);
}

void unsynced_rename(int from_dir, const char *from, int to_dir, const char *to) {
  char source[2 * PATH_MAX], target[2 * PATH_MAX];
  struct change *change;
  if (!under || whole_path(from_dir, from, source) != 0 || whole_path(to_dir, to, target) != 0) return;
  if (!is_under(source) && !is_under(target)) return;
  change = note(MOVED);
  change->from = strdup(source);
  change->path = strdup(target);
  change->kept = keep(target);
}

static void forget(struct change **at) {
  struct change *change = *at;
  *at = change->older;
  if (change->fd >= 0) close(change->fd);
  if (change->kept) sys_unlink(change->kept, 0);
  free(change->bytes);
  free(change->path);
  free(change->from);
  free(change->kept);
  free(change);
}

static int is_in(const char *path, const char *dir) {
  size_t length = strlen(dir);
  return strncmp(path, dir, length) == 0 && path[length] == '/' && !strchr(path + length + 1, '/');
}

unsigned long unsynced_now(void) {
  unsigned long now;
  unsynced_lock();
  now = changes_made;
  unsynced_unlock();
  return now;
}

void unsynced_synced(int fd, unsigned long until) {
  char path[PATH_MAX];
  struct stat status;
  if (!under || fstat(fd, &status) != 0 || path_of(fd, path) != 0) return;
  unsynced_lock();
  for (struct change **at = &newest; *at;) {
    struct change *change = *at;
    int is_kept = change->number <= until &&
      (change->kind == DATA ? change->device == status.st_dev && change->inode == status.st_ino
                            : S_ISDIR(status.st_mode) && is_in(change->path, path));
    if (is_kept) forget(at);
    else at = &change->older;
  }
  unsynced_unlock();
}

/* xorshift64*: what is lost is drawn from the seed. */
static unsigned long long draw(void) {
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return seed * 0x2545f4914f6cdd1dULL;
}

static void lose_data(const struct change *change, int all) {
  for (off64_t at = change->at; at < change->at + (off64_t)change->count;) {
    off64_t next = (at / SECTOR + 1) * SECTOR, end = change->at + (off64_t)change->count;
    if (next > end) next = end;
    if (all || draw() & 1) {
      if (syscall(SYS_pwrite64, change->fd, change->bytes + (at - change->at), (size_t)(next - at), at) < 0) abort();
    }
    at = next;
  }
  if (all && syscall(SYS_ftruncate, change->fd, change->length) != 0) abort();
}

static void lose_name(const struct change *change) {
  switch (change->kind) {
    case CREATED: sys_unlink(change->path, 0); break;
    case CREATED_DIR: sys_unlink(change->path, AT_REMOVEDIR); break;
    case REMOVED: if (change->kept) sys_rename(change->kept, change->path); break;
    case REMOVED_DIR: syscall(SYS_mkdirat, AT_FDCWD, change->path, 0700); break;
    case MOVED:
      sys_rename(change->path, change->from);
      if (change->kept) sys_rename(change->kept, change->path);
      break;
    case DATA: break;
  }
}

/* All data, half of the sectors, or none; and the names that were changed after some point. */
void unsynced_lose(void) {
  unsigned long long much;
  unsigned long names_from;
  pthread_mutex_lock(&lock);
  draw();
  much = draw() % 3;
  names_from = changes_made ? draw() % (changes_made + 1) : 0;
  for (struct change *change = newest; change; change = change->older) {
    if (change->kind == DATA && much > 0) lose_data(change, much == 2);
    if (change->kind != DATA && change->number > names_from) lose_name(change);
  }
  kill(getpid(), SIGKILL);
  for (;;) pause();
}
