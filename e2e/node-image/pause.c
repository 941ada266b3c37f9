// The process that holds a pod's namespaces: sleeps for ever and reaps orphans.
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void quit(int signal) {
  (void)signal;
  _exit(0);
}

static void reap(int signal) {
  (void)signal;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

int main(void) {
  struct sigaction quitting = {.sa_handler = quit};
  struct sigaction reaping = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
  sigaction(SIGINT, &quitting, NULL);
  sigaction(SIGTERM, &quitting, NULL);
  sigaction(SIGCHLD, &reaping, NULL);
  for (;;) pause();
}
