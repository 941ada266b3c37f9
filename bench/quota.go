package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The control groups of both kinds of system, where they are mounted everywhere.
const (
	groupsOne = "/sys/fs/cgroup/cpu"
	groupsTwo = "/sys/fs/cgroup"
	// quotaPeriod, in microseconds: short, so that who is out of its part waits for some milliseconds only.
	quotaPeriod = 10_000
	// groupEmpties bounds the wait until the kernel has forgotten the processes of a group.
	groupEmpties = 5 * time.Second
)

// quota is a control group that lets its processes use a part of a core, and no more: who offers load to them has
// the rest of the machine.
type quota string

// newQuota makes a group for a part of a core. It needs root.
func newQuota(part float64) (quota, error) {
	name := fmt.Sprintf("engram-bench-%d", os.Getpid())
	limit := fmt.Sprintf("%d", int(part*quotaPeriod))
	if _, err := os.Stat(filepath.Join(groupsOne, "cpu.cfs_quota_us")); err == nil {
		q := quota(filepath.Join(groupsOne, name))
		return q, q.make([][2]string{{"cpu.cfs_period_us", fmt.Sprint(quotaPeriod)}, {"cpu.cfs_quota_us", limit}})
	}
	// Where it is on already, or belongs to somebody else, the next step says so.
	_ = os.WriteFile(filepath.Join(groupsTwo, "cgroup.subtree_control"), []byte("+cpu"), 0o644)
	q := quota(filepath.Join(groupsTwo, name))
	return q, q.make([][2]string{{"cpu.max", fmt.Sprintf("%s %d", limit, quotaPeriod)}})
}

func (q quota) make(settings [][2]string) error {
	failed := os.Mkdir(string(q), 0o755)
	for _, setting := range settings {
		failed = errors.Join(failed, os.WriteFile(filepath.Join(string(q), setting[0]), []byte(setting[1]), 0o644))
	}
	if failed != nil {
		return fmt.Errorf("a control group with a part of a core (as root, where /sys/fs/cgroup can be written): %w",
			errors.Join(failed, q.remove()))
	}
	return nil
}

// through is a command that has what is handed to it run in the group.
func (q quota) through() []string {
	return []string{"sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, string(q)}
}

// remove waits until nobody is in it.
func (q quota) remove() error {
	deadline := time.Now().Add(groupEmpties)
	for {
		err := os.Remove(string(q))
		if err == nil || errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
