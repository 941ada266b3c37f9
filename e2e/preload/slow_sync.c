/* For LD_PRELOAD: fdatasync and fsync of files whose names end with SLOW_SYNC_SUFFIX take
 * SLOW_SYNC_MILLIS longer while the file SLOW_SYNC_WHILE exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int is_slow(int fd) {
  const char *suffix = getenv("SLOW_SYNC_SUFFIX"), *while_there = getenv("SLOW_SYNC_WHILE");
  char link[64], path[4096];
  struct stat status;
  ssize_t length;
  size_t end;
  if (!suffix || !while_there || stat(while_there, &status) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  end = strlen(suffix);
  return (size_t)length >= end && strcmp(path + length - end, suffix) == 0;
}

static void wait_if_slow(int fd) {
  const char *millis = getenv("SLOW_SYNC_MILLIS");
  long total = millis ? atol(millis) : 0;
  struct timespec left = {total / 1000, (total % 1000) * 1000000};
  if (!is_slow(fd)) return;
  while (nanosleep(&left, &left) != 0) {}
}

int fdatasync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  wait_if_slow(fd);
  return real(fd);
}

int fsync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  wait_if_slow(fd);
  return real(fd);
}
