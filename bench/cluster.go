package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// members is how many a cluster has.
const members = 3

// newCluster is newServer for three members: the server returned is the first of them, and after
// its start the one that leads is where load goes.
func (b *bench) newCluster(s *side, store string) (*server, error) {
	first, err := b.newServer(s, store)
	if err != nil {
		return nil, err
	}
	for place := 1; place < members; place++ {
		other, err := b.newServer(s, fmt.Sprintf("%s-%d", store, place+1))
		if err != nil {
			return nil, err
		}
		first.others = append(first.others, other)
	}
	var initial []string
	all := append([]*server{first}, first.others...)
	for place, member := range all {
		member.member = fmt.Sprintf("bench%d", place+1)
		initial = append(initial, member.member+"=http://"+member.peer)
	}
	for _, member := range all {
		member.initial = strings.Join(initial, ",")
	}
	return first, nil
}

// startCluster starts every member at once, waits until each serves, and has load go to the leader.
func (b *bench) startCluster(s *server) error {
	for _, member := range append([]*server{s}, s.others...) {
		if err := member.launch(); err != nil {
			return err
		}
	}
	for _, member := range append([]*server{s}, s.others...) {
		if err := member.waitHealthy(); err != nil {
			return err
		}
	}
	return b.turnToLeader(s)
}

// turnToLeader swaps the server that load goes to with the one that leads.
func (b *bench) turnToLeader(s *server) error {
	for _, other := range s.others {
		leads, err := b.leads(other)
		if err != nil {
			return err
		}
		if leads {
			s.addr, other.addr = other.addr, s.addr
			s.peer, other.peer = other.peer, s.peer
			s.dir, other.dir = other.dir, s.dir
			s.cmd, other.cmd = other.cmd, s.cmd
			return nil
		}
	}
	return nil
}

func (b *bench) leads(s *server) (bool, error) {
	text, err := b.etcdctl(s, "endpoint", "status", "-w", "json")
	if err != nil {
		return false, err
	}
	var status []struct {
		Status struct {
			Header struct {
				Member uint64 `json:"member_id"`
			} `json:"header"`
			Leader uint64 `json:"leader"`
		} `json:"Status"`
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status) != 1 {
		return false, fmt.Errorf("etcdctl endpoint status on %s: %q", s.name, text)
	}
	return status[0].Status.Header.Member == status[0].Status.Leader, nil
}

// perClusterCall is perCall with the CPU of all members summed.
func (b *bench) perClusterCall(s *server, o offered) (sample, error) {
	before, err := s.allCPUSeconds()
	if err != nil {
		return sample{}, err
	}
	l, err := b.load(s, o, false)
	if err != nil {
		return sample{}, err
	}
	after, err := s.allCPUSeconds()
	if err != nil || l.Ops == 0 {
		return sample{}, fmt.Errorf("load %s did nothing: %w", strings.Join(o, " "), err)
	}
	used := (after - before) * 1e6 / float64(l.Ops)
	return sample{value: used, load: l, note: fmt.Sprintf("the leader alone: %.0f µs", l.Server.CPUMicrosPerOp)}, nil
}

func (s *server) allCPUSeconds() (float64, error) {
	sum := 0.0
	for _, member := range append([]*server{s}, s.others...) {
		used, err := member.cpuSeconds()
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}
