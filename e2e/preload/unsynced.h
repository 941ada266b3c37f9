/* What a process changed in the files below a directory and did not sync yet, so that it can be lost as
 * by a power failure. Everything here is called with the lock held, but the calls that say otherwise.
 * Without unsynced_begin all of it does nothing.
 *
 * The model: fsync and fdatasync of a file keep all that was written to it before they began; fsync of a
 * directory keeps the names in it. Nothing else keeps anything. */
#ifndef UNSYNCED_H
#define UNSYNCED_H

#include <stddef.h>
#include <sys/types.h>

void unsynced_begin(const char *under, unsigned long long seed);
void unsynced_lock(void);
void unsynced_unlock(void);

/* Before a change: bytes of a file from a place on (-1: where its descriptor stands; no bytes: its
 * length), a name that is opened, made, removed, or moved. */
void unsynced_write(int fd, off64_t at, size_t count);
void unsynced_open(int dir, const char *path, int flags);
void unsynced_create(int dir, const char *path, int is_dir);
void unsynced_unlink(int dir, const char *path, int flags);
void unsynced_rename(int from_dir, const char *from, int to_dir, const char *to);

/* Without the lock: the number of changes so far; a sync that began then has ended. */
unsigned long unsynced_now(void);
void unsynced_synced(int fd, unsigned long until);

/* Without the lock: the power goes. Does not return. */
void unsynced_lose(void);

#endif
