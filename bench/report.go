package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

const method = `Both servers run side by side on this machine, on one file system, with fsync and without TLS, at
their default flags (etcd's quota is raised to 16 GiB, or it would refuse the larger loads). Both are
loaded with the same keys in an order unlike key order; values are random bytes and do not
compress. Runs alternate between the two; the figure is the median. *µs CPU* and *s CPU* are what the
server process itself used a call (/proc/PID/stat: user and system), since the load generator
uses more than the servers and would hide the difference in rates. Latencies without an offered rate
are those of a closed loop.
`

// report writes the tables.
func (b *bench) report(results []result) string {
	var t strings.Builder
	fmt.Fprintf(&t, "# Engram beside etcd\n\n")
	if b.quick {
		fmt.Fprintf(&t, "**A quick run with smaller sizes: for use while developing, not the measurement.**\n\n")
	}
	fmt.Fprintf(&t, "%s\n", method)
	b.describe(&t)
	fmt.Fprintf(&t, "\n| workload | unit | etcd | Engram | etcd ÷ Engram | target | reached | load |\n")
	fmt.Fprintf(&t, "|---|---|---:|---:|---:|---|---|---:|\n")
	for _, r := range results {
		fmt.Fprintln(&t, r.line(results))
	}
	fmt.Fprintf(&t, "\n*load*: the load average when the row began.\n\n## Every run\n\n")
	fmt.Fprintf(&t, "Rate, latencies and the note are those of the median run.\n\n")
	fmt.Fprintf(&t, "| row | side | runs | calls/s | p50 ms | p99 ms | p99.9 ms | max ms | note |\n")
	fmt.Fprintf(&t, "|---|---|---|---:|---:|---:|---:|---:|---|\n")
	for _, r := range results {
		for i, side := range b.sides {
			if len(r.samples[i]) > 0 {
				fmt.Fprintln(&t, r.detail(side.name, r.samples[i]))
			}
		}
	}
	return t.String()
}

func (b *bench) describe(t *strings.Builder) {
	fmt.Fprintf(t, "- %s, command `%s`, commit %s\n", b.started.UTC().Format("2006-01-02 15:04 UTC"), strings.TrimSpace(b.options.command), b.commit)
	for _, s := range b.sides {
		fmt.Fprintf(t, "- %s: %s\n", s.name, s.version)
	}
	fmt.Fprintf(t, "- %s\n", machine(b.dir))
	fmt.Fprintf(t, "- load average %s before, %s after; %s in all; median of %d\n",
		b.beforeLoad, loadAverage(), time.Since(b.started).Round(time.Second), b.sizes.runs)
}

// machine describes where this ran.
func machine(dir string) string {
	var name syscall.Utsname
	kernel := "?"
	if syscall.Uname(&name) == nil {
		var text []byte
		for _, c := range name.Release {
			if c == 0 {
				break
			}
			text = append(text, byte(c))
		}
		kernel = string(text)
	}
	return fmt.Sprintf("%d × %s, %s of memory, Linux %s, %s", runtime.NumCPU(),
		fieldOf("/proc/cpuinfo", "model name"), fieldOf("/proc/meminfo", "MemTotal"), kernel, fileSystem(dir))
}

// fieldOf returns the first "name: value" of a file of /proc.
func fieldOf(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return "?"
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if key, value, found := strings.Cut(lines.Text(), ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "?"
}

// fileSystem is the type of the mount that holds dir: the longest mount point that it begins with.
func fileSystem(dir string) string {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "?"
	}
	point, kind := "", "?"
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || len(fields[1]) < len(point) {
			continue
		}
		inside := fields[1] == "/" || dir == fields[1] || strings.HasPrefix(dir, fields[1]+"/")
		if inside {
			point, kind = fields[1], fields[2]
		}
	}
	return kind
}

// line is the row's line of the table; all are the results among which its goal may look.
func (r result) line(all []result) string {
	if r.err != nil {
		return fmt.Sprintf("| %s | %s | | | | | **failed**: %s | %s |", r.row.title, r.row.unit,
			strings.ReplaceAll(r.err.Error(), "\n", " "), r.load)
	}
	etcd, engram := median(r.samples[0]), median(r.samples[1])
	target, reached := "–", "–"
	if goal := r.row.goal; goal != nil {
		target, reached = goal.text, goal.verdict(etcd.value, engram.value, all)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |", r.row.title, r.row.unit,
		etcd.text(), engram.text(), ratio(etcd, engram), target, reached, r.load)
}

// verdict is yes or no, or a dash where the row to compare with was not measured.
func (g *goal) verdict(etcd, engram float64, all []result) string {
	other := etcd
	if g.row != "" {
		i := slices.IndexFunc(all, func(r result) bool { return r.row.name == g.row && r.err == nil })
		if i < 0 {
			return "–"
		}
		other = median(all[i].samples[1]).value
	}
	if g.reached(other, engram) {
		return "yes"
	}
	return "no"
}

func (r result) detail(side string, samples []sample) string {
	var values []string
	for _, s := range samples {
		values = append(values, s.text())
	}
	m := median(samples)
	numbers := " | | | | "
	if l := m.load; l != nil {
		numbers = fmt.Sprintf("%s | %s | %s | %s | %s", figure(l.Rate), figure(l.P50), figure(l.P99), figure(l.P999), figure(l.Max))
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", r.row.name, side, strings.Join(values, ", "), numbers, m.note)
}

// figure writes a number with three digits that mean something.
func figure(v float64) string {
	switch {
	case v < 0:
		return "-" + figure(-v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
