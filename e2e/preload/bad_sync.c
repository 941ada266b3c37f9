/* For LD_PRELOAD: fdatasync and fsync of files whose path matches the pattern BAD_SYNC_FILES, while the
 * file BAD_SYNC_WHILE exists, take BAD_SYNC_MILLIS longer, or fail with EIO where that is "eio". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int is_bad(int fd) {
  const char *pattern = getenv("BAD_SYNC_FILES"), *while_there = getenv("BAD_SYNC_WHILE");
  char link[64], path[4096];
  struct stat status;
  ssize_t length;
  if (!pattern || !while_there || stat(while_there, &status) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return fnmatch(pattern, path, 0) == 0;
}

/* 0 if the sync is to go on. */
static int suffer(int fd) {
  const char *what = getenv("BAD_SYNC_MILLIS");
  long total = what ? atol(what) : 0;
  struct timespec left = {total / 1000, (total % 1000) * 1000000};
  if (!is_bad(fd)) return 0;
  if (what && strcmp(what, "eio") == 0) {
    errno = EIO;
    return -1;
  }
  while (nanosleep(&left, &left) != 0) {}
  return 0;
}

int fdatasync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  return suffer(fd) != 0 ? -1 : real(fd);
}

int fsync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  return suffer(fd) != 0 ? -1 : real(fd);
}
