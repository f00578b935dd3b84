package server

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

func decode(target, kind string, body []byte) error {
	r := httptest.NewRequest(http.MethodPost, "/v1/writes", nil)
	r.URL.RawQuery = target
	r.Header.Set("Content-Type", kind)
	_, _, err := decodeWrites(r, body)
	return err
}

func TestWaitAndTimeoutAreReadOrRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"": -1, "5s": 5 * time.Second, "5": 5 * time.Second, "0.5": 500 * time.Millisecond, "0": 0, "60": time.Minute, "1m": time.Minute,
		"61": -1, "-1": -1, "-1s": -1, "NaN": -1, "Inf": -1, "-Inf": -1, "1e300": -1, "9223372036854775807": -1, "5 s": -1, "soon": -1, "null": -1,
		"2562047h47m16.854775807s": -1,
	} {
		w := wish{timeout: waitDefault}
		err := w.limit(text)
		if (err != nil) != (want < 0) || (err == nil && w.timeout != want) {
			t.Errorf("timeout %q: %v, %v", text, w.timeout, err)
		}
	}
	for body, ok := range map[string]bool{
		`{"operation":"o","wait":"applied"}`:                   true,
		`{"operation":"o","wait":"applied","timeout":"3s"}`:    true,
		`{"operation":"o","wait":"applied","timeout":3}`:       true,
		`{"operation":"o","wait":"applied","timeout":[3]}`:     false,
		`{"operation":"o","wait":"applied","timeout":{}}`:      false,
		`{"operation":"o","wait":"forever"}`:                   false,
		`{"operation":"o","wait":true}`:                        false,
		`{"operation":"o","Wait":"applied"}`:                   false,
		`{"operation":"o","wait":"applied"} {"operation":"o"}`: false,
		`{"operation":"the \"wait\" is over"}`:                 true,
	} {
		if err := decode("", "application/json", []byte(body)); (err == nil) != ok {
			t.Errorf("%s: %v", body, err)
		}
	}
	if decode("wait=never", "application/json", []byte(`{"operation":"o"}`)) == nil {
		t.Error("any wish in the query is taken")
	}
}

// What a stranger sends costs little more than its length.
func TestHostileBodiesCostLittle(t *testing.T) {
	for name, c := range map[string]struct {
		kind string
		body []byte
	}{
		"millions of empty writes": {"application/x-ndjson", bytes.Repeat([]byte("{}\n"), maxWrites/3)},
		"millions of parameters":   {"application/json", []byte(`{"params":{` + strings.Repeat(`"a":1,`, maxWrites/6-8) + `"b":1}}`)},
		"millions of statements":   {"application/json", []byte(`{"statements":[` + strings.Repeat(`{},`, maxWrites/3-8) + `{}]}`)},
		"depth":                    {"application/json", bytes.Repeat([]byte("["), maxWrites)},
		"depth and wait":           {"application/json", append([]byte(`{"wait":`), bytes.Repeat([]byte("["), maxWrites/2)...)},
		"one long text":            {"application/json", []byte(`{"operation":"` + strings.Repeat(`\u0041`, maxWrites/7) + `"`)},
		"wait in a crowd":          {"application/json", []byte(`{"wait":"applied",` + strings.Repeat(`"a":1,`, maxWrites/6-8) + `"b":1}`)},
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		err := decode("", c.kind, c.body)
		runtime.ReadMemStats(&after)
		cost := (after.TotalAlloc - before.TotalAlloc) >> 20
		t.Logf("%-26s %3d MiB allocated: %.100v", name, cost, err)
		if err == nil || cost > 64 {
			t.Errorf("%s: %d MiB, %v", name, cost, err)
		}
	}
}

func FuzzDecodeWrites(f *testing.F) {
	for _, s := range []string{
		`{"operation":"o","params":{"a":1},"wait":"applied","timeout":"5s"}`, "{\"key\":\"k\"}\n\n{\"id\":\"x\"}\n", `{"statements":[{"sql":"x","args":[null,1.5,{"bytes":"AA=="}]}]}`,
		`{"wait":`, `[]`, "\xff", `{"timeout":1e999}`, strings.Repeat("[", 100),
	} {
		f.Add(s, "application/json", "timeout=3")
		f.Add(s, "application/x-ndjson; charset=utf-8", "wait=applied")
	}
	f.Fuzz(func(t *testing.T, body, kind, query string) {
		r := httptest.NewRequest(http.MethodPost, "/v1/writes", nil)
		r.URL.RawQuery = query
		r.Header["Content-Type"] = []string{kind}
		all, want, err := decodeWrites(r, []byte(body))
		switch {
		case err != nil:
		case len(all) == 0 || len(all) > maxLines:
			t.Errorf("%d writes", len(all))
		case want.timeout < 0 || want.timeout > waitMost:
			t.Errorf("a timeout of %s", want.timeout)
		}
	})
}
