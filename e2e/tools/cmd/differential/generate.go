package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The key space is small so that operations meet, and holds what is easily got wrong: NUL and
// 0xff bytes, keys that are prefixes of others, keys beside the end of a prefix.
var keySpace = makeKeySpace()

func makeKeySpace() [][]byte {
	var keys [][]byte
	for _, k := range []string{
		"\x00", "\x00\x00", "\x00\x01", "\x01", "a", "a\x00", "a\x00b", "a\xff", "a\xff\xff", "b",
		"k", "k\x00", "k.", "k/", "k/\x00", "k/\xff", "k0", "kk", "z", "z\xff",
		"\xfe", "\xfe\xff", "\xff", "\xff\x00", "\xffa", "\xff\xff", "ключ", "ключи",
	} {
		keys = append(keys, []byte(k))
	}
	for i := range 8 {
		keys = append(keys, fmt.Appendf(nil, "k/%d", i))
	}
	for i := range 4 {
		keys = append(keys, fmt.Appendf(nil, "registry/pods/ns%d/p", i))
	}
	keys = append(keys, bytes.Repeat([]byte("long"), 100))
	return keys
}

// bulkKeys is how many more keys the large transactions write.
const bulkKeys = 140

// generator draws requests. What it knows of the store it learns from the answers of a, so that
// its choices are the same in every run of a seed.
type generator struct {
	*rand.Rand
	operationNumber int
	revision        int64
	compacted       int64
	compactedAt     map[int64]bool // every revision at which a compaction was ever done
	compactionIdle  bool           // no compaction can still be running in the background
	lastWritten     map[string]int64
}

func newGenerator(random *rand.Rand) generator {
	return generator{
		Rand:           random,
		compactedAt:    map[int64]bool{},
		compactionIdle: true,
		lastWritten:    map[string]int64{},
	}
}

// learn takes the store's revision from the headers of an answer.
func (g *generator) learn(a answer) {
	for _, m := range a.messages {
		if h, ok := m.(withHeader); ok {
			g.revision = max(g.revision, h.GetHeader().GetRevision())
		}
	}
}

// chance is true in percent of 100 cases.
func (g *generator) chance(percent float64) bool {
	return g.Float64()*100 < percent
}

func (g *generator) key() []byte {
	return keySpace[g.IntN(len(keySpace))]
}

// span draws the key and range end of a request: one key, or a range of any kind.
func (g *generator) span() (key, end []byte) {
	key = g.key()
	switch p := g.IntN(100); {
	case p < 40:
		return key, nil
	case p < 57:
		return key[:1+g.IntN(len(key))], nil
	case p < 70:
		prefix := key[:1+g.IntN(len(key))]
		return prefix, prefixEnd(prefix)
	case p < 82:
		return key, []byte{0}
	case p < 88:
		return []byte{0}, []byte{0}
	case p < 96:
		other := g.key()
		if bytes.Compare(key, other) > 0 {
			key, other = other, key
		}
		return key, other // empty where they are the same
	case p < 99:
		other := g.key()
		if bytes.Compare(key, other) < 0 {
			key, other = other, key
		}
		return key, other // inverted: etcd finds nothing
	}
	return nil, g.key()
}

// prefixEnd is the end of the range of all keys that begin with prefix, as etcd's client makes it.
func prefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := bytes.Clone(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return []byte{0}
}

// readRevision draws the revision of a read: mostly the head, else old, compacted or future.
func (g *generator) readRevision() int64 {
	switch p := g.IntN(100); {
	case p < 55:
		return 0
	case p < 80:
		return g.pastRevision()
	case p < 86:
		return g.compacted
	case p < 90:
		return g.compacted - 1
	case p < 94:
		return g.revision
	case p < 97:
		return g.revision + 1 + g.Int64N(5)
	case p < 99:
		return -g.Int64N(10)
	}
	return math.MaxInt64 - 1
}

// pastRevision is one that can be read.
func (g *generator) pastRevision() int64 {
	first := max(g.compacted, 1)
	return first + g.Int64N(g.revision-first+1)
}

func (g *generator) value() []byte {
	const bigEvery = 2000 // makes watch answers and stream chunks reach etcd's limit of 1.5 MiB
	if g.IntN(bigEvery) == 0 {
		return g.randomBytes(100_000 + g.IntN(200_000))
	}
	switch p := g.IntN(100); {
	case p < 10:
		return nil
	case p < 40:
		// Few different ones, so that compares and sorts by value meet equals.
		return []byte{"0v\x00\xff"[g.IntN(4)]}
	case p < 95:
		return fmt.Appendf(nil, "v%d", g.operationNumber)
	}
	return g.randomBytes(g.IntN(2000))
}

func (g *generator) randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func allKeys() *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	r := &pb.RangeRequest{Revision: g.readRevision()}
	r.Key, r.RangeEnd = g.span()
	r.Serializable = g.chance(15)
	r.KeysOnly = g.chance(15)
	r.CountOnly = g.chance(10)
	if g.chance(40) {
		r.Limit = int64(g.IntN(14)) - 2
	}
	if g.chance(35) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.IntN(5))
	}
	if g.chance(1) {
		r.SortOrder = 9
	}
	if g.chance(1) {
		r.SortTarget = -1
	}
	for _, bound := range []*int64{
		&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision,
	} {
		if g.chance(6) {
			*bound = max(0, g.revision-200) + g.Int64N(220)
		}
	}
	return r
}

// rangeStreamRequest leaves out the sort by target without an order: etcd takes it, pages through
// an unstable order and may send a key twice.
func (g *generator) rangeStreamRequest() *pb.RangeRequest {
	r := g.rangeRequest()
	if r.SortOrder == pb.RangeRequest_NONE {
		r.SortTarget = pb.RangeRequest_KEY
	}
	if g.chance(50) {
		r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
	}
	return r
}

func (g *generator) putRequest() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(30)}
	if g.chance(20) {
		r.Lease = g.leaseID()
	}
	if g.chance(6) {
		r.IgnoreValue = true
		if g.chance(80) {
			r.Value = nil
		}
	}
	if g.chance(6) {
		r.IgnoreLease = true
		if g.chance(80) {
			r.Lease = 0
		}
	}
	if g.chance(0.5) {
		r.Key = nil
	}
	return r
}

func (g *generator) deleteRequest() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: g.chance(40)}
	r.Key, r.RangeEnd = g.span()
	if len(r.RangeEnd) > 0 && g.chance(60) {
		r.RangeEnd = nil // most deletes are small, or the store would always be nearly empty
	}
	if g.chance(3) {
		r.Key, r.RangeEnd = []byte("bulk/"), []byte("bulk0")
	}
	return r
}
