package main

import (
	"fmt"
	"math/rand/v2"
)

const (
	prefix    = "/registry/load/"
	prefixEnd = "/registry/load0"
	keyDigits = 9
	// timestampBytes is what the watch workload puts in front of a value.
	timestampBytes = 8
)

// keySet names the keys of the store: number i is the i-th in key order.
type keySet struct {
	count   int
	bytes   int
	padding string
	stride  int
}

func newKeySet(count, keyBytes int) keySet {
	padding := make([]byte, keyBytes-len(prefix)-keyDigits)
	for i := range padding {
		padding[i] = 'x'
	}
	return keySet{count: count, bytes: keyBytes, padding: string(padding), stride: coprimeStride(count)}
}

// key is the key number i.
func (s keySet) key(i int) []byte {
	return fmt.Appendf(make([]byte, 0, s.bytes), "%s%0*d%s", prefix, keyDigits, i, s.padding)
}

// shuffled maps 0..count to itself, so that neighbours come far apart.
func (s keySet) shuffled(i int) int {
	return int(int64(i) * int64(s.stride) % int64(s.count))
}

// coprimeStride is a step near the golden section of count that visits every number.
func coprimeStride(count int) int {
	stride := max(1, int(float64(count)*0.6180339887))
	for gcd(stride, count) != 1 {
		stride++
	}
	return stride
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// values makes values that do not compress.
type values struct {
	random *rand.ChaCha8
	bytes  int
}

func newValues(seed, caller uint64, bytes int) values {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
		key[8+i] = byte(caller >> (8 * i))
	}
	return values{random: rand.NewChaCha8(key), bytes: bytes}
}

func (v values) next() []byte { return v.of(v.bytes) }

// of makes one of another length.
func (v values) of(bytes int) []byte {
	value := make([]byte, bytes)
	_, _ = v.random.Read(value) // never fails
	return value
}
