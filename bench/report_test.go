package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func samples(values ...float64) []sample {
	var s []sample
	for _, v := range values {
		s = append(s, sample{value: v})
	}
	return s
}

func TestARowShowsMediansRatioAndWhetherItsTargetIsReached(t *testing.T) {
	cases := []struct {
		goal         *goal
		etcd, engram []sample
		want         string
	}{
		{timesBetter(5), samples(100, 50, 60), samples(10, 900, 12), "| 60.0 | 12.0 | 5.00 | ≥ 5 | yes |"},
		{timesBetter(5), samples(59), samples(12), "| 59.0 | 12.0 | 4.92 | ≥ 5 | no |"},
		{fractionOf(0.5, "1/2"), samples(4), samples(2), "| ≤ 1/2 of etcd's | yes |"},
		{fractionOf(0.5, "1/2"), samples(4), samples(2.1), "| ≤ 1/2 of etcd's | no |"},
		{atMost(1.5, " ×"), samples(30), samples(1.5), "| 20.0 | Engram ≤ 1.5 × | yes |"},
		{atMost(64, " MB"), samples(30), samples(0), "| 30.0 | 0 | – | Engram ≤ 64 MB | yes |"},
		{asIn("other"), samples(30), samples(12), "| Engram ≤ 1.5 × its other | yes |"},
		{asIn("other"), samples(30), samples(12.1), "| Engram ≤ 1.5 × its other | no |"},
		{asIn("unmeasured"), samples(30), samples(10), "| Engram ≤ 1.5 × its unmeasured | – |"},
		{nil, samples(30), samples(10), "| 3.00 | – | – |"},
	}
	others := []result{{row: row{name: "other"}, samples: [2][]sample{samples(1), samples(8)}}}
	for _, c := range cases {
		r := result{row: row{title: "row", unit: "MB", goal: c.goal}, samples: [2][]sample{c.etcd, c.engram}}
		if line := r.line(others); !strings.Contains(line, c.want) {
			t.Errorf("%q does not hold %q", line, c.want)
		}
	}
}

func TestEveryRowHasItsOwnNameAndAStoreThatIsLoaded(t *testing.T) {
	for _, sizes := range []sizes{fullSizes, quickSizes} {
		b := &bench{sizes: sizes}
		names := map[string]bool{}
		stores := map[string]bool{}
		for _, s := range storeOrder {
			stores[s] = true
		}
		for _, r := range b.allRows() {
			if names[r.name] {
				t.Errorf("%s comes twice", r.name)
			}
			names[r.name] = true
			if !stores[r.store] {
				t.Errorf("%s is measured on %q, which nobody loads", r.name, r.store)
			}
		}
	}
}

func TestRowsAreChosenByTheBeginningOfTheirNames(t *testing.T) {
	b := &bench{sizes: fullSizes}
	b.wanted = []string{"put", "count-1M", "put-1"}
	rows, err := b.chosen()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	if got := strings.Join(names, " "); got != "put-1x64 put-64x64 put-1x1 put-p99 count-1M" {
		t.Error(got)
	}
	b.wanted = []string{"puts"}
	if _, err := b.chosen(); err == nil {
		t.Error("a row that is not there was chosen")
	}
}

func TestTheTablesCellsAreAsManyAsTheirHeads(t *testing.T) {
	b := &bench{sizes: fullSizes, sides: [2]*side{{name: "etcd"}, {name: "Engram"}}}
	r := row{name: "x", title: "row", unit: "MB"}
	text := b.report([]result{
		{row: r, samples: [2][]sample{samples(1), samples(2)}},
		{row: r, samples: [2][]sample{{{value: 1, load: &loaded{}}}, samples(2)}},
	})
	columns := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		if got := strings.Count(line, "|"); columns != 0 && got != columns {
			t.Errorf("%d cells, not %d: %s", got-1, columns-1, line)
		} else {
			columns = got
		}
	}
}

func TestWhatTheClockDoesNotTellIsSaidSo(t *testing.T) {
	least := func(v float64) sample { return sample{value: v, atMost: true} }
	cases := []struct {
		etcd, engram sample
		want         string
	}{
		{sample{value: 60}, sample{value: 12}, "5.00"},
		{sample{value: 60}, least(12), "≥ 5.00"},
		{least(60), sample{value: 12}, "≤ 5.00"},
		{least(60), least(12), "–"},
		{sample{value: 60}, sample{}, "–"},
	}
	for _, c := range cases {
		if got := ratio(c.etcd, c.engram); got != c.want {
			t.Errorf("%s over %s is told as %q, not %q", c.etcd.text(), c.engram.text(), got, c.want)
		}
	}
	l := &loaded{Ops: 1000}
	l.Server.CPUSeconds, l.Server.CPUMicrosPerOp = 0.07, 70
	if got := cpuPerCall(l, "").text(); got != "≤ 80.0" {
		t.Errorf("seven steps of the clock are told as %q", got)
	}
	l.Server.CPUSeconds, l.Server.CPUMicrosPerOp = 0.1, 100
	if got := cpuPerCall(l, "").text(); got != "100" {
		t.Errorf("ten steps of the clock are told as %q", got)
	}
}

func TestACurveIsDrawnWithBothSidesAndItsSizes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "growth-put.svg")
	points := []point{
		{keys: 10_000, samples: [2]sample{{value: 60}, {value: 12}}},
		{keys: 1_000_000, samples: [2]sample{{value: 90}, {value: 13}}},
	}
	if err := draw(path, curve{title: "a put", unit: "µs CPU"}, points, [2]string{"etcd", "Engram"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", "a put", "etcd", "Engram", "10k", "1M"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the drawing has no %q", want)
		}
	}
}
