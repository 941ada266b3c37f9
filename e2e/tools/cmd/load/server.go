package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// ticksPerSecond is the unit of /proc/PID/stat, the same on every Linux.
	ticksPerSecond = 100
	// memorySample is how often memory is looked at for its peak.
	memorySample = 100 * time.Millisecond
	// holdSettles is what passes after the last operation before it counts as held.
	holdSettles = 3 * time.Second
)

// serverUsage is what the server process used. CPU has a resolution of 10 ms: measure 20,000
// operations or more.
type serverUsage struct {
	CPUMicrosPerOp    float64 `json:"cpu_us_per_op"`
	UserMicrosPerOp   float64 `json:"cpu_user_us_per_op"`
	SystemMicrosPerOp float64 `json:"cpu_system_us_per_op"`
	CPUSeconds        float64 `json:"cpu_seconds"`
	RSSAnonKB         int64   `json:"rss_anon_kb"`
	RSSFileKB         int64   `json:"rss_file_kb"`
	RSSAnonBeforeKB   int64   `json:"rss_anon_before_kb"`
	RSSAnonPeakKB     int64   `json:"rss_anon_peak_kb"` // sampled while measuring
	HighWaterKB       int64   `json:"vm_hwm_kb"`        // VmHWM, since the process started
	RSSBeforeKB       int64   `json:"rss_before_kb"`
	RSSHeldKB         int64   `json:"rss_held_kb,omitempty"`  // at the end of -hold
	HeldPercent       float64 `json:"held_percent,omitempty"` // of a core, during -hold
}

// hold waits and sees what the server does meanwhile, and what it has at the end.
func (u *serverUsage) hold(ctx context.Context, c config) error {
	if u == nil {
		return nil
	}
	for _, wait := range []time.Duration{holdSettles, c.hold} {
		user, system, err := readCPU(c.serverPID)
		if err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		laterUser, laterSystem, err := readCPU(c.serverPID)
		if err != nil {
			return err
		}
		used := float64(laterUser+laterSystem-user-system) / ticksPerSecond
		u.HeldPercent = used / wait.Seconds() * 100
	}
	memory, err := readMemory(c.serverPID)
	u.RSSHeldKB = memory["VmRSS"]
	return err
}

// observer watches one process; a nil one watches none.
type observer struct {
	pid          int
	user, system int64
	anonBefore   int64
	rssBefore    int64
	anonPeak     atomic.Int64
	stop         chan struct{}
	stopped      chan struct{}
}

func observe(pid int) (*observer, error) {
	if pid == 0 {
		return nil, nil
	}
	o := &observer{pid: pid, stop: make(chan struct{}), stopped: make(chan struct{})}
	memory, err := readMemory(pid)
	if err != nil {
		return nil, err
	}
	o.anonBefore, o.rssBefore = memory["RssAnon"], memory["VmRSS"]
	o.anonPeak.Store(o.anonBefore)
	if o.user, o.system, err = readCPU(pid); err != nil {
		return nil, err
	}
	go o.sampleMemory()
	return o, nil
}

func (o *observer) sampleMemory() {
	defer close(o.stopped)
	ticker := time.NewTicker(memorySample)
	defer ticker.Stop()
	for {
		select {
		case <-o.stop:
			return
		case <-ticker.C:
		}
		memory, err := readMemory(o.pid)
		if err != nil {
			return // finish says what is wrong
		}
		o.anonPeak.Store(max(o.anonPeak.Load(), memory["RssAnon"]))
	}
}

func (o *observer) finish(operations int) (*serverUsage, error) {
	if o == nil {
		return nil, nil
	}
	user, system, err := readCPU(o.pid)
	if err != nil {
		return nil, err
	}
	close(o.stop)
	<-o.stopped
	memory, err := readMemory(o.pid)
	if err != nil {
		return nil, err
	}
	perOp := func(ticks int64) float64 {
		return float64(ticks) / ticksPerSecond * 1e6 / float64(max(operations, 1))
	}
	user, system = user-o.user, system-o.system
	return &serverUsage{
		CPUMicrosPerOp:    perOp(user + system),
		UserMicrosPerOp:   perOp(user),
		SystemMicrosPerOp: perOp(system),
		CPUSeconds:        float64(user+system) / ticksPerSecond,
		RSSAnonKB:         memory["RssAnon"],
		RSSFileKB:         memory["RssFile"],
		RSSAnonBeforeKB:   o.anonBefore,
		RSSBeforeKB:       o.rssBefore,
		RSSAnonPeakKB:     max(o.anonPeak.Load(), memory["RssAnon"]),
		HighWaterKB:       memory["VmHWM"],
	}, nil
}

// readCPU returns the process's user and system time in ticks.
func readCPU(pid int) (user, system int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("server process: %w", err)
	}
	// The name of the program stands in parentheses and may hold spaces; utime and stime are the
	// 12th and 13th field after it.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("server process: /proc/%d/stat is too short", pid)
	}
	if user, err = strconv.ParseInt(fields[11], 10, 64); err != nil {
		return 0, 0, err
	}
	system, err = strconv.ParseInt(fields[12], 10, 64)
	return user, system, err
}

// readMemory returns the lines of /proc/PID/status that are in kB.
func readMemory(pid int) (map[string]int64, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, fmt.Errorf("server process: %w", err)
	}
	defer file.Close()
	memory := map[string]int64{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		number, isKB := strings.CutSuffix(strings.TrimSpace(value), " kB")
		if !isKB {
			continue
		}
		if memory[name], err = strconv.ParseInt(number, 10, 64); err != nil {
			return nil, err
		}
	}
	return memory, lines.Err()
}
