package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"
	"time"
	"unicode/utf8"
)

// Write is one write as a client sends it.
type Write struct {
	ID         string                     `json:"id,omitempty"`
	Key        string                     `json:"key,omitempty"`
	Operation  string                     `json:"operation,omitempty"`
	Params     map[string]json.RawMessage `json:"params,omitempty"`
	Statements []Statement                `json:"statements,omitempty"`
}

// Caller is who sends writes, and what they may.
type Caller struct {
	Name string // of the token; kept with the write and shown on dead letters
	// Operations the caller may use: names or patterns such as "order.*".
	Operations []string
	// SQL allows writes that bring their own statements.
	SQL bool
	// Call allows CALL in such statements.
	Call bool
	// Operate allows pausing, resuming, and everything with dead letters.
	Operate bool
	// WritesPerSecond and BytesPerSecond limit the caller; 0 means no limit.
	WritesPerSecond float64
	BytesPerSecond  float64
}

func (c Caller) may(operation string) bool {
	for _, p := range c.Operations {
		if ok, _ := path.Match(p, operation); ok {
			return true
		}
	}
	return false
}

// Limits bound what one request may bring.
type Limits struct {
	WriteBytes int // one write, default 1 MiB
	Batch      int // writes in one request, default 4096
	Key        int // bytes of a key, default 255
	Statements int // of one write, default 64
	Args       int // of one statement, default 1024
}

func (l Limits) withDefaults() Limits {
	or := func(v *int, def, most int) {
		if *v <= 0 || *v > most {
			*v = def
		}
	}
	or(&l.WriteBytes, 1<<20, 3<<19) // see minPacket
	or(&l.Batch, maxFrameWrites, maxFrameWrites)
	or(&l.Key, 255, 255)
	or(&l.Statements, 64, 4096)
	or(&l.Args, 1024, 65535)
	return l
}

const (
	maxDepth = 32
	// maxValues is how many values the JSON of one write may have: a little more
	// than statements times arguments. Each costs many times its length.
	maxValues = 70_000
)

// Decode reads one write from JSON. Unknown members, a second value, and
// nesting beyond 32 levels are refused.
func Decode(b []byte) (Write, *Problem) {
	if p := Measure(b); p != nil {
		return Write{}, p
	}
	if !utf8.Valid(b) {
		return Write{}, problem(400, "bad-json", "not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	d.UseNumber()
	var w Write
	if err := d.Decode(&w); err != nil {
		return w, problem(400, "bad-json", "%s", jsonError(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return w, problem(400, "bad-json", "something follows the write")
	}
	return w, nil
}

func jsonError(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// Measure refuses JSON that no write can be, before anything is made of it.
func Measure(b []byte) *Problem {
	depth, values := shape(b)
	if depth > maxDepth {
		return problem(400, "bad-json", "nested deeper than %d levels", maxDepth)
	}
	if values > maxValues {
		return tooLarge("%d values in one write, %d are allowed", values, maxValues)
	}
	return nil
}

// shape counts open brackets and commas outside of strings, without allocating.
func shape(b []byte) (depth, values int) {
	now, text := 0, false
	values = 1
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == ',':
			values++
		case c == '{' || c == '[':
			now++
			depth = max(depth, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return depth, values
}

// build turns a write into a record, or says what is wrong with it.
func (s *Service) build(w Write, c Caller, now time.Time) (*record, *Problem) {
	r := &record{kind: kindWrite, key: w.Key, by: c.Name, session: currentSession}
	if w.ID == "" {
		r.id = NewID(now)
	} else {
		id, err := ParseID(w.ID)
		if err != nil {
			return nil, in("id", invalid("bad-id", "%v", err))
		}
		if p := s.checkAge(id, now); p != nil {
			return nil, in("id", p)
		}
		r.id = id
	}
	var p *Problem
	switch {
	case w.Operation != "" && w.Statements != nil:
		p = invalid("bad-write", "a write names an operation or brings statements, not both")
	case w.Operation != "":
		p = s.fillOperation(r, w, c)
	case len(w.Statements) > 0:
		p = s.fillSQL(r, w, c)
	default:
		p = invalid("bad-write", "a write names an operation or brings statements")
	}
	if p != nil {
		return nil, p
	}
	switch {
	case r.key == "":
		return nil, in("key", invalid("missing", "an ordering key is required; writes of one key take effect in order"))
	case len(r.key) > s.limits.Key || !utf8.ValidString(r.key):
		return nil, in("key", invalid("out-of-range", "at most %d bytes of UTF-8", s.limits.Key))
	case r.size() > s.limits.WriteBytes:
		return nil, tooLarge("the write has %d bytes, %d are allowed", r.size(), s.limits.WriteBytes)
	}
	return r, nil
}

// checkAge keeps late retries from being taken for new writes: beyond the
// window the ledger may have forgotten the id.
func (s *Service) checkAge(id ID, now time.Time) *Problem {
	age := now.Sub(id.Time())
	if age > s.window {
		return &Problem{
			Kind: "id-too-old", Status: 409, Detail: "the id was made more than " + s.window.String() + " ago",
			Hint: "look at the tables whether the write took effect; a new write needs a new id",
		}
	}
	if age < -5*time.Minute {
		return invalid("bad-id", "the time in the id is %s ahead of ours", (-age).Round(time.Second))
	}
	return nil
}

func (s *Service) fillOperation(r *record, w Write, c Caller) *Problem {
	op := s.ops.get(w.Operation)
	if !c.may(w.Operation) {
		// Whether it exists is not for everybody to know.
		return in("operation", forbidden("this token may not use operation %q", clip(w.Operation)))
	}
	if op == nil {
		return in("operation", invalid("unknown-operation", "there is no operation %q", clip(w.Operation)))
	}
	for name := range w.Params {
		if op.params[name] == nil {
			return in("params."+clip(name), invalid("unknown-parameter", "operation %q has no such parameter", op.Name))
		}
	}
	values := make(map[string]Value, len(op.params))
	var texts []named
	for name, p := range op.params {
		raw, sent := w.Params[name]
		var v Value
		var prob *Problem
		if sent {
			v, prob = p.value(raw)
		} else {
			v, prob = p.absent()
		}
		if prob != nil {
			return in("params."+name, prob)
		}
		values[name] = v
		if sent && p.Type == "text" && !p.Free {
			texts = append(texts, named{"params." + name, v.text})
		}
	}
	if p := s.rules.check(texts); p != nil {
		return p
	}
	r.operation = op.Name
	r.stmts = make([]stmt, len(op.stmts))
	for i, st := range op.stmts {
		args := make([]Value, len(st.params))
		for j, name := range st.params {
			args[j] = values[name]
		}
		r.stmts[i] = stmt{sql: st.sql, args: args, min: st.min, max: st.max, resetID: st.resetID, random: st.random}
	}
	if len(op.key) > 0 {
		var b strings.Builder
		for _, k := range op.key {
			b.WriteString(k.text)
			if k.param != "" {
				b.WriteString(values[k.param].String())
			}
		}
		if w.Key != "" && w.Key != b.String() {
			return in("key", invalid("bad-key", "operation %q makes its own key", op.Name))
		}
		r.key = b.String()
	}
	return nil
}

func (s *Service) fillSQL(r *record, w Write, c Caller) *Problem {
	if !c.SQL {
		return in("statements", forbidden("this token may only use operations"))
	}
	if w.Params != nil {
		return in("params", invalid("bad-write", "params belong to an operation; statements have args"))
	}
	if len(w.Statements) > s.limits.Statements {
		return in("statements", tooLarge("%d statements, %d are allowed", len(w.Statements), s.limits.Statements))
	}
	inserted := false
	for i, st := range w.Statements {
		out, verb, p := s.sqlStmt(st, c)
		if p == nil && out.resetID && !inserted {
			p = invalid("refused-sql", "LAST_INSERT_ID() without an INSERT before it in the same write is that of somebody else")
		}
		if p != nil {
			return in("statements."+itoa(i), p)
		}
		inserted = inserted || verb == "INSERT"
		r.stmts = append(r.stmts, out)
	}
	return s.rules.check(textsOf(r.stmts))
}

// textsOf is what the rules look at in statements: the values, not the SQL,
// which is the guard's.
func textsOf(stmts []stmt) []named {
	var out []named
	for i := range stmts {
		for j, v := range stmts[i].args {
			if v.kind == kindText {
				out = append(out, named{"statements." + itoa(i) + ".args." + itoa(j), v.text})
			}
		}
	}
	return out
}

func (s *Service) sqlStmt(st Statement, c Caller) (stmt, string, *Problem) {
	if len(st.SQL) > s.limits.WriteBytes {
		return stmt{}, "", tooLarge("the statement is too long")
	}
	cp, p := s.guardCached(st.SQL, allow{call: c.Call})
	if p != nil {
		return stmt{}, "", in("sql", p)
	}
	if len(cp.params) != len(st.Args) || len(st.Args) > s.limits.Args {
		return stmt{}, "", in("args", invalid("bad-args", "%d places and %d values", len(cp.params), len(st.Args)))
	}
	lo, hi, p := st.expect()
	if p != nil {
		return stmt{}, "", p
	}
	out := stmt{sql: cp.sql, min: lo, max: hi, resetID: cp.resetID, random: cp.random}
	for i, name := range cp.params {
		if name != "" {
			return stmt{}, "", in("sql", invalid("bad-args", "args are bound to ?, not to :%s", clip(name)))
		}
		v, p := argument(st.Args[i])
		if p != nil {
			return stmt{}, "", in("args."+itoa(i), p)
		}
		out.args = append(out.args, v)
	}
	return out, cp.verb, nil
}

// argument reads a value of plain JSON. {"bytes":"…base64…"} is binary.
func argument(a any) (Value, *Problem) {
	switch a := a.(type) {
	case nil:
		return Null(), nil
	case bool:
		if a {
			return Int(1), nil
		}
		return Int(0), nil
	case string:
		if !utf8.ValidString(a) {
			return Value{}, invalid("wrong-type", "text that is not UTF-8")
		}
		return Text(a), suspicious(a)
	case json.Number:
		p := param{Param: Param{Type: "int"}}
		if v, prob := p.integer(a.String()); prob == nil {
			return v, nil
		}
		p.Type = "number"
		return p.number(a.String())
	case int:
		return Int(int64(a)), nil
	case int64:
		return Int(a), nil
	case uint64:
		return Uint(a), nil
	case float64:
		p := param{Param: Param{Type: "number"}}
		return p.number(json.Number(ftoa(a)).String())
	case []byte:
		return Bytes(a), nil
	case time.Time:
		return Time(a), nil
	case map[string]any:
		if text, ok := a["bytes"].(string); ok && len(a) == 1 {
			p := param{Param: Param{Type: "bytes"}}
			return p.string(text)
		}
	}
	return Value{}, invalid("wrong-type", `expected null, true, false, a number, a string or {"bytes":"base64"}`)
}
