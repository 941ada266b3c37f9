package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	ticksPerSecond = 100 // the unit of /proc/PID/stat, the same on every Linux
	startLimit     = 3 * time.Minute
	healthPoll     = 2 * time.Millisecond
)

// side is one of the two programs that are compared.
type side struct {
	name    string
	binary  string
	flags   []string // beside those that both get
	version string
}

// identify asks both for their version, which also shows that they can be run.
func (b *bench) identify() error {
	for _, s := range b.sides {
		out, err := exec.CommandContext(b.ctx, s.binary, "--version").Output()
		if err != nil {
			return fmt.Errorf("%s --version: %w", s.binary, err)
		}
		s.version = strings.Join(strings.Split(strings.TrimSpace(string(out)), "\n"), ", ")
	}
	return nil
}

// server is one side with a data directory.
type server struct {
	*side
	ctx        context.Context
	dir        string
	addr, peer string
	cmd        *exec.Cmd
	member     string    // its name
	initial    string    // --initial-cluster
	through    []string  // a command that is handed the program and becomes it
	joins      bool      // a cluster that is there
	others     []*server // the members beside this one
	filled     *loaded   // what loading its store took
}

// newServer chooses ports and directories; start runs it.
func (b *bench) newServer(s *side, store string) (*server, error) {
	dir := filepath.Join(b.work, fmt.Sprintf("%s-%s", strings.ToLower(s.name), store))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	peer, err := freeAddress()
	return &server{
		side: s, ctx: b.ctx, dir: dir, addr: addr, peer: peer,
		member: "bench", initial: "bench=http://" + peer,
	}, err
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func (s *server) dataDir() string { return filepath.Join(s.dir, "data") }

func (s *server) pid() int { return s.cmd.Process.Pid }

// start returns when the first linearizable read was answered: /health makes one, in both.
func (s *server) start() error {
	if err := s.launch(); err != nil {
		return err
	}
	return s.waitHealthy()
}

func (s *server) launch() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	client, peer := "http://"+s.addr, "http://"+s.peer
	args := []string{
		"--name=" + s.member, "--data-dir=" + s.dataDir(),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + s.initial,
	}
	if s.joins {
		args = append(args, "--initial-cluster-state=existing")
	}
	words := append(append(append([]string{}, s.through...), s.binary), append(args, s.flags...)...)
	s.cmd = exec.Command(words[0], words[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return s.cmd.Start()
}

func (s *server) waitHealthy() error {
	deadline := time.Now().Add(startLimit)
	for time.Now().Before(deadline) && s.ctx.Err() == nil {
		if s.healthy() {
			return nil
		}
		if s.ended() {
			break
		}
		time.Sleep(healthPoll)
	}
	s.kill()
	return fmt.Errorf("%s does not serve; the end of its log:\n%s", s.name, s.logTail())
}

func (s *server) healthy() bool {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + s.addr + "/health")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	return err == nil && response.StatusCode == http.StatusOK && strings.Contains(string(body), `"true"`)
}

// ended says whether the process is a zombie or gone.
func (s *server) ended() bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "Z")
}

func (s *server) logTail() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// kill is kill -9.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	// It may have ended by itself; Wait reaps it in either case.
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// remove ends the server and frees its space.
func (s *server) remove() error {
	var failed error
	for _, other := range s.others {
		failed = errors.Join(failed, other.remove())
	}
	s.kill()
	return errors.Join(failed, os.RemoveAll(s.dir))
}

// cpuSeconds is what the process has used, user and system.
func (s *server) cpuSeconds() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
	if err != nil {
		return 0, err
	}
	// The program's name stands in parentheses and may hold spaces.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return float64(user+system) / ticksPerSecond, err
}

// memoryMB reads one of /proc/PID/status's lines.
func (s *server) memoryMB(field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		value, found := strings.CutPrefix(line, field+":")
		if !found {
			continue
		}
		kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		return kb / 1024, err
	}
	return 0, fmt.Errorf("/proc/PID/status has no %s", field)
}

// diskMB is what the data directory takes on disk (allocated blocks), with and without the log of
// writes, which both keep in a directory called wal.
func (s *server) diskMB() (all, store float64, err error) {
	walk := func(path string, entry os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		mb := float64(info.Sys().(*syscall.Stat_t).Blocks) * 512 / (1 << 20)
		all += mb
		if filepath.Base(filepath.Dir(path)) != "wal" {
			store += mb
		}
		return nil
	}
	err = filepath.WalkDir(s.dataDir(), walk)
	return all, store, err
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	return strings.Join(strings.Fields(string(text))[:1], " ")
}
