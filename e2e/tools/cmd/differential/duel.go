package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"engram.dev/e2e/tools/internal/endpoint"
)

const (
	// answerTimeout is far above what any operation takes: who needs longer does not answer.
	answerTimeout = 30 * time.Second
	// barrierEvery is after how many operations all watch streams are compared.
	barrierEvery = 500
	// historyLength is how many operations the report of a difference shows.
	historyLength = 20
	// historyTextMax cuts the requests and answers in that report.
	historyTextMax = 400
	// differenceBefore is how much the report shows before the first difference.
	differenceBefore = 60
)

var sideNames = [2]string{"a", "b"}

// answer is what one server said to one operation: the messages, and how it ended.
type answer struct {
	messages []proto.Message
	err      error
}

// operation is one question. call asks one side; it must not touch what the other side's call
// touches, for both run at the same time.
type operation struct {
	name    string
	request proto.Message
	call    func(ctx context.Context, side int) answer
}

// kind is the name without what belongs to this one operation.
func (o operation) kind() string {
	kind, _, _ := strings.Cut(o.name, " on stream")
	return kind
}

// duel is one run: two servers, what is known about their (common) state, and the open streams.
type duel struct {
	generator
	servers    [2]*endpoint.Endpoint
	watches    [2]*endpoint.Endpoint // connections of their own, so that a stream delays no call
	keepAlives [2]pb.Lease_LeaseKeepAliveClient
	streams    []*watchPair

	number      int // of the current operation
	streamCount int
	eventCount  int
	history     []asked
	outcomes    map[string]int // by operation and status code
}

// asked is an operation of the past, with the answer of a.
type asked struct {
	number int
	op     operation
	answer answer
}

func newDuel(addrA, addrB string, seed uint64) (*duel, error) {
	d := &duel{outcomes: map[string]int{}}
	d.generator = newGenerator(rand.New(rand.NewPCG(seed, 0)))
	var err error
	if d.servers, err = dialBoth(addrA, addrB); err != nil {
		return nil, err
	}
	if d.watches, err = dialBoth(addrA, addrB); err != nil {
		return nil, err
	}
	for side, server := range d.servers {
		// No deadline: the stream lives as long as the run; every wait on it has one.
		if d.keepAlives[side], err = server.Lease.LeaseKeepAlive(context.Background()); err != nil {
			return nil, fmt.Errorf("%s: %w", sideNames[side], err)
		}
	}
	return d, nil
}

func (d *duel) run(operations int) error {
	// Also finds out whether both servers start from the same revision.
	if _, err := d.ask(d.rangeOperation(allKeys())); err != nil {
		return err
	}
	for d.number = 1; d.number <= operations; d.number++ {
		d.operationNumber = d.number
		if err := d.step(); err != nil {
			return d.report(err)
		}
		if d.number%barrierEvery == 0 {
			if err := d.compareStreams(); err != nil {
				return d.report(err)
			}
		}
		if d.number%10_000 == 0 {
			fmt.Fprintf(os.Stderr, "differential: %d operations, revision %d, %d watch events\n",
				d.number, d.revision, d.eventCount)
		}
	}
	if err := d.finish(); err != nil {
		return d.report(err)
	}
	return nil
}

// ask puts op to both servers at once and compares the answers; it returns that of a.
func (d *duel) ask(op operation) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	var answers [2]answer
	done := make(chan struct{})
	go func() {
		answers[1] = op.call(ctx, 1)
		close(done)
	}()
	answers[0] = op.call(ctx, 0)
	<-done

	d.remember(op, answers[0])
	for side := range answers {
		if unanswered(answers[side].err) {
			return answer{}, fmt.Errorf("%s did not answer %s: %v\n%s",
				sideNames[side], op.name, answers[side].err, text(op.request))
		}
		normalise(op.request, answers[side])
	}
	align(answers[0], answers[1])
	if !equal(answers[0], answers[1]) {
		return answer{}, fmt.Errorf("%s is answered differently\nrequest: %s\n%s",
			op.name, text(op.request), difference(answers[0].String(), answers[1].String()))
	}
	d.learn(answers[0])
	d.outcomes[fmt.Sprintf("%s %s", op.kind(), status.Code(answers[0].err))]++
	return answers[0], nil
}

// unanswered tells errors of the connection from answers: two servers that are both down agree.
func unanswered(err error) bool {
	switch status.Code(err) {
	case codes.DeadlineExceeded, codes.Unavailable, codes.Canceled:
		return true
	}
	return false
}

func (d *duel) remember(op operation, a answer) {
	if len(d.history) == historyLength {
		d.history = d.history[1:]
	}
	d.history = append(d.history, asked{d.number, op, a})
}

func (d *duel) report(err error) error {
	var lines strings.Builder
	for _, past := range d.history {
		fmt.Fprintf(&lines, "%d %s %s\n      -> %s\n",
			past.number, past.op.name, cut(text(past.op.request)), cut(past.answer.String()))
	}
	return fmt.Errorf("operation %d: %w\nthe last %d operations, with the answers of a:\n%s",
		d.number, err, len(d.history), lines.String())
}

// difference shows two texts, and where they begin to differ if they are long.
func difference(a, b string) string {
	both := fmt.Sprintf("a: %s\nb: %s", a, b)
	if len(both) <= 2*historyTextMax {
		return both
	}
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	return fmt.Sprintf("%s\nfirst difference, at byte %d\na: …%s\nb: …%s",
		both, at, cut(a[max(0, at-differenceBefore):]), cut(b[max(0, at-differenceBefore):]))
}

func cut(s string) string {
	if len(s) <= historyTextMax {
		return s
	}
	return s[:historyTextMax] + "…"
}

func (a answer) String() string {
	var parts []string
	for _, m := range a.messages {
		parts = append(parts, text(m))
	}
	if a.err != nil {
		s, _ := status.FromError(a.err)
		parts = append(parts, fmt.Sprintf("error %s %q", s.Code(), s.Message()))
	}
	return strings.Join(parts, "\n   ")
}
