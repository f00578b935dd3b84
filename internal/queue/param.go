package queue

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Param is one typed value that an operation needs.
type Param struct {
	Name string `json:"name" yaml:"name"`
	// Type is int, number, bool, text, enum, uuid, date, time, json or bytes
	// (base64 on the wire). Text is the default.
	Type string `json:"type,omitempty" yaml:"type,omitempty"`
	// Min and Max bound int and number by value; text, json and bytes by length
	// (characters, or bytes of bytes). Text is limited to 65,535 without Max.
	Min *json.Number `json:"min,omitempty" yaml:"min,omitempty"`
	Max *json.Number `json:"max,omitempty" yaml:"max,omitempty"`
	// Pattern must match the whole text (RE2).
	Pattern string   `json:"pattern,omitempty" yaml:"pattern,omitempty"`
	Values  []string `json:"values,omitempty" yaml:"values,omitempty"` // of an enum
	// Optional parameters are NULL when absent, or Default where there is one.
	Optional bool `json:"optional,omitempty" yaml:"optional,omitempty"`
	Default  any  `json:"default,omitempty" yaml:"default,omitempty"`
	// Free switches the search for SQL and script in this text off: for fields
	// in which people write about such things.
	Free bool `json:"free,omitempty" yaml:"free,omitempty"`
}

type param struct {
	Param
	lo, hi  *big.Rat
	pattern *regexp.Regexp
	def     *Value
}

const defaultTextMax = 65535

var types = []string{"int", "number", "bool", "text", "enum", "uuid", "date", "time", "json", "bytes"}

func (p Param) compile() (*param, error) {
	if p.Type == "" {
		p.Type = "text"
	}
	c := &param{Param: p}
	if !paramOK.MatchString(p.Name) {
		return nil, errors.New("the name must be letters, digits and '_', up to 64")
	}
	if !slices.Contains(types, p.Type) {
		return nil, fmt.Errorf("type %q is not one of %s", p.Type, strings.Join(types, ", "))
	}
	for _, b := range []struct {
		text *json.Number
		into **big.Rat
	}{{p.Min, &c.lo}, {p.Max, &c.hi}} {
		if b.text == nil {
			continue
		}
		r, ok := rat(b.text.String())
		if !ok {
			return nil, fmt.Errorf("%q is not a number", *b.text)
		}
		*b.into = r
	}
	if c.lo != nil && c.hi != nil && c.lo.Cmp(c.hi) > 0 {
		return nil, errors.New("min is above max")
	}
	if p.Pattern != "" {
		re, err := regexp.Compile(`\A(?:` + p.Pattern + `)\z`)
		if err != nil {
			return nil, fmt.Errorf("pattern: %w", err)
		}
		c.pattern = re
	}
	if (p.Type == "enum") != (len(p.Values) > 0) {
		return nil, errors.New("values belong to an enum, and an enum needs them")
	}
	if p.Default != nil {
		raw, err := json.Marshal(p.Default)
		if err != nil {
			return nil, fmt.Errorf("default: %w", err)
		}
		v, prob := c.value(raw)
		if prob != nil {
			return nil, fmt.Errorf("default: %w", prob)
		}
		c.def = &v
	}
	return c, nil
}

// rat reads a decimal number of reasonable size. Rat's own parser would take
// 1e999999999 and think about it for a long time.
func rat(s string) (*big.Rat, bool) {
	if len(s) > 80 {
		return nil, false
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		if e, err := strconv.Atoi(s[i+1:]); err != nil || e > 308 || e < -324 {
			return nil, false
		}
	}
	if strings.ContainsAny(s, "/_xXpP") {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// absent is the value of a parameter that was not sent.
func (p *param) absent() (Value, *Problem) {
	switch {
	case p.def != nil:
		return *p.def, nil
	case p.Optional:
		return Null(), nil
	}
	return Value{}, invalid("missing", "the parameter is required")
}

// value reads one JSON value as what the parameter must be.
func (p *param) value(raw json.RawMessage) (Value, *Problem) {
	text := strings.TrimSpace(string(raw))
	if text == "null" {
		if p.Optional {
			return Null(), nil
		}
		return Value{}, p.wrong("null")
	}
	switch p.Type {
	case "int":
		return p.integer(text)
	case "number":
		return p.number(text)
	case "bool":
		switch text {
		case "true":
			return Int(1), nil
		case "false":
			return Int(0), nil
		}
		return Value{}, p.wrong("something else")
	case "json":
		return p.length(Text(text), utf8.RuneCountInString(text))
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return Value{}, p.wrong("something that is no string")
	}
	return p.string(s)
}

func (p *param) wrong(got string) *Problem {
	return invalid("wrong-type", "expected %s, got %s", p.Type, got)
}

func (p *param) integer(text string) (Value, *Problem) {
	i, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		u, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return Value{}, p.wrong("something that is no whole number of 64 bits")
		}
		return Uint(u), p.inRange(new(big.Rat).SetInt(new(big.Int).SetUint64(u)))
	}
	return Int(i), p.inRange(new(big.Rat).SetInt64(i))
}

func (p *param) number(text string) (Value, *Problem) {
	if text == "" || text[0] != '-' && !isDigit(text[0]) {
		return Value{}, p.wrong("something that is no number")
	}
	r, ok := rat(text)
	if !ok {
		return Value{}, p.wrong("a number out of reach")
	}
	return number(text), p.inRange(r)
}

func (p *param) inRange(r *big.Rat) *Problem {
	if p.lo != nil && r.Cmp(p.lo) < 0 {
		return invalid("out-of-range", "must be at least %s", *p.Min)
	}
	if p.hi != nil && r.Cmp(p.hi) > 0 {
		return invalid("out-of-range", "must be at most %s", *p.Max)
	}
	return nil
}

func (p *param) string(s string) (Value, *Problem) {
	switch p.Type {
	case "enum":
		if !slices.Contains(p.Values, s) {
			return Value{}, invalid("out-of-range", "must be one of %s", strings.Join(p.Values, ", "))
		}
	case "uuid":
		if !uuidOK.MatchString(s) {
			return Value{}, p.wrong("another form")
		}
	case "date":
		if _, err := time.Parse(time.DateOnly, s); err != nil {
			return Value{}, p.wrong("another form than 2006-01-02")
		}
	case "time":
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil || t.Year() < 1000 || t.Year() > 9999 {
			return Value{}, p.wrong("another form than 2006-01-02T15:04:05Z")
		}
		return Time(t), nil
	case "bytes":
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return Value{}, p.wrong("something that is no base64")
		}
		return p.length(Bytes(b), len(b))
	case "text":
		return p.text(s)
	}
	return Text(s), nil
}

func (p *param) text(s string) (Value, *Problem) {
	v, prob := p.length(Text(s), utf8.RuneCountInString(s))
	if prob != nil {
		return v, prob
	}
	if !utf8.ValidString(s) {
		return v, p.wrong("text that is not UTF-8")
	}
	if p.pattern != nil && !p.pattern.MatchString(s) {
		return v, invalid("out-of-range", "does not match the pattern %s", p.Pattern)
	}
	if !p.Free {
		return v, suspicious(s)
	}
	return v, nil
}

func (p *param) length(v Value, n int) (Value, *Problem) {
	r := new(big.Rat).SetInt64(int64(n))
	if p.lo != nil && r.Cmp(p.lo) < 0 {
		return v, invalid("out-of-range", "must be at least %s long", *p.Min)
	}
	if p.hi != nil && r.Cmp(p.hi) > 0 {
		return v, invalid("out-of-range", "must be at most %s long", *p.Max)
	}
	if p.hi == nil && p.Type == "text" && n > defaultTextMax {
		return v, invalid("out-of-range", "must be at most %d long", defaultTextMax)
	}
	return v, nil
}

var uuidOK = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
