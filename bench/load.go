package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// loaded is what the program load prints, as far as the table needs it.
type loaded struct {
	Ops        int     `json:"ops"`
	Calls      int     `json:"calls"`
	Seconds    float64 `json:"seconds"`
	Rate       float64 `json:"rate"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	P999       float64 `json:"p999_ms"`
	Max        float64 `json:"max_ms"`
	OnsetP99   float64 `json:"onset_p99_ms"`
	Errors     int     `json:"errors"`
	FirstError string  `json:"first_error"`
	Missing    int     `json:"missing"`
	Events     int     `json:"events"`
	Refused    int     `json:"refused"`
	Server     struct {
		CPUMicrosPerOp float64 `json:"cpu_us_per_op"`
		CPUSeconds     float64 `json:"cpu_seconds"`
		AnonBeforeKB   float64 `json:"rss_anon_before_kb"`
		AnonPeakKB     float64 `json:"rss_anon_peak_kb"`
		RSSBeforeKB    float64 `json:"rss_before_kb"`
		RSSHeldKB      float64 `json:"rss_held_kb"`
		HeldPercent    float64 `json:"held_percent"`
	} `json:"server"`
}

// growthMB is how much anonymous memory the server took while it was measured.
func (l *loaded) growthMB() float64 { return (l.Server.AnonPeakKB - l.Server.AnonBeforeKB) / 1024 }

// offered is a load: the workload's name and its flags.
type offered []string

func (o offered) with(flags ...any) offered {
	more := append(offered{}, o...)
	for _, f := range flags {
		more = append(more, fmt.Sprint(f))
	}
	return more
}

// loader is the program load, to be run on s.
func (b *bench) loader(s *server, o offered) *exec.Cmd {
	arguments := o.with("-addr", s.addr, "-server-pid", s.pid())
	return exec.CommandContext(b.ctx, filepath.Join(b.tools, "load"), arguments...)
}

// load offers o to s. Wrong answers make it fail; failed calls do too, unless they are tolerated.
func (b *bench) load(s *server, o offered, tolerant bool) (*loaded, error) {
	cmd := b.loader(s, o)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("load %s on %s: %w: %s", strings.Join(o, " "), s.name, err, tail(complaint.String()))
	}
	return decodeLoad(s, o, out.Bytes(), tolerant)
}

func decodeLoad(s *server, o offered, text []byte, tolerant bool) (*loaded, error) {
	var l loaded
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, fmt.Errorf("load %s: %w", strings.Join(o, " "), err)
	}
	if l.Missing != 0 {
		return nil, fmt.Errorf("load %s: %s left out %d keys", strings.Join(o, " "), s.name, l.Missing)
	}
	if l.Errors > 0 && !tolerant {
		return nil, fmt.Errorf("load %s: %s failed %d calls: %s", strings.Join(o, " "), s.name, l.Errors, l.FirstError)
	}
	return &l, nil
}

func tail(text string) string {
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-500):]
}

// etcdctl runs etcdctl on s and returns what it prints.
func (b *bench) etcdctl(s *server, args ...string) (string, error) {
	args = append([]string{"--endpoints=http://" + s.addr, "--command-timeout=10m"}, args...)
	cmd := exec.CommandContext(b.ctx, filepath.Join(b.tools, "etcdctl"), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("etcdctl %s on %s: %w: %s", strings.Join(args, " "), s.name, err, tail(string(out)))
	}
	return string(out), nil
}

// revision is the revision that s has reached.
func (b *bench) revision(s *server) (int64, error) {
	text, err := b.etcdctl(s, "endpoint", "status", "-w", "json")
	if err != nil {
		return 0, err
	}
	var status []struct {
		Status struct {
			Header struct {
				Revision int64 `json:"revision"`
			} `json:"header"`
		} `json:"Status"`
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status) != 1 {
		return 0, fmt.Errorf("etcdctl endpoint status on %s: %q", s.name, text)
	}
	return status[0].Status.Header.Revision, nil
}
