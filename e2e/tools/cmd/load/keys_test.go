package main

import (
	"bytes"
	"testing"
	"time"
)

func TestShuffledKeysAreAllKeysOnceAndNotInOrder(t *testing.T) {
	for _, count := range []int{1, 2, 3, 10, 1000, 4096, 99_991} {
		s := newKeySet(count, 64)
		seen := make([]bool, count)
		neighbours := 0
		for i := range count {
			n := s.shuffled(i)
			if seen[n] {
				t.Fatalf("of %d keys number %d comes twice", count, n)
			}
			seen[n] = true
			if i > 0 && n == s.shuffled(i-1)+1 {
				neighbours++
			}
		}
		if count >= 1000 && neighbours > count/100 {
			t.Errorf("of %d keys %d follow their neighbour", count, neighbours)
		}
	}
}

func TestKeysHaveTheirLengthAndOrder(t *testing.T) {
	s := newKeySet(2_000_000, 64)
	for _, i := range []int{0, 9, 99_999, 999_999} {
		key, after := s.key(i), s.key(i+1)
		if len(key) != 64 || bytes.Compare(key, after) >= 0 {
			t.Errorf("key %d is %q, the next %q", i, key, after)
		}
		if bytes.Compare(key, []byte(prefix)) < 0 || bytes.Compare(key, []byte(prefixEnd)) >= 0 {
			t.Errorf("key %q is outside the prefix", key)
		}
	}
}

func TestQuantilesAreOfTheSortedLatencies(t *testing.T) {
	if q := quantile(nil, 0.5); q != 0 {
		t.Errorf("of none: %v", q)
	}
	sorted := make([]time.Duration, 0)
	for i := range 1000 {
		sorted = append(sorted, time.Duration(i+1)*1e6)
	}
	for q, want := range map[float64]float64{0.5: 501, 0.99: 991, 0.999: 1000, 1: 1000} {
		if got := quantile(sorted, q); got != want {
			t.Errorf("quantile %v is %v, not %v", q, got, want)
		}
	}
}
