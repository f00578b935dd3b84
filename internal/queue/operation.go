package queue

import (
	"errors"
	"fmt"
	"regexp"
	"sync/atomic"
)

// Operation is a named write that clients may ask for: what it needs, and the
// statements it becomes. Declared in the file or over the API.
type Operation struct {
	Name       string      `json:"name" yaml:"name"`
	About      string      `json:"about,omitempty" yaml:"about,omitempty"`
	Params     []Param     `json:"params,omitempty" yaml:"params,omitempty"`
	Statements []Statement `json:"statements" yaml:"statements"`
	// Key is a template of the ordering key, such as "account-{account}". Empty
	// means: the client names a key with each write.
	Key string `json:"key,omitempty" yaml:"key,omitempty"`
	// Call allows procedures in Statements.
	Call bool `json:"call,omitempty" yaml:"call,omitempty"`
}

// Statement is SQL with bound values: :name in an operation, ? in a write that
// brings its own SQL.
type Statement struct {
	SQL  string `json:"sql" yaml:"sql"`
	Args []any  `json:"args,omitempty" yaml:"-"`
	// Rows, or the range MinRows to MaxRows, is how many rows the statement
	// must affect. Otherwise the write fails as if the statement had.
	Rows    *int64 `json:"rows,omitempty" yaml:"rows,omitempty"`
	MinRows *int64 `json:"min_rows,omitempty" yaml:"min_rows,omitempty"`
	MaxRows *int64 `json:"max_rows,omitempty" yaml:"max_rows,omitempty"`
}

// expect gives the range of rows; max < 0 is without limit.
func (s Statement) expect() (lo, hi int64, p *Problem) {
	lo, hi = 0, -1
	if s.Rows != nil {
		if s.MinRows != nil || s.MaxRows != nil {
			return 0, 0, invalid("bad-rows", "rows and min_rows/max_rows exclude each other")
		}
		lo, hi = *s.Rows, *s.Rows
	}
	if s.MinRows != nil {
		lo = *s.MinRows
	}
	if s.MaxRows != nil {
		hi = *s.MaxRows
	}
	if lo < 0 || hi >= 0 && hi < lo || (s.MaxRows != nil || s.Rows != nil) && hi < 0 {
		return 0, 0, invalid("bad-rows", "the range of rows is impossible")
	}
	return lo, hi, nil
}

// operation is an Operation that has been checked.
type operation struct {
	Operation
	params map[string]*param
	stmts  []opStmt
	key    []keyPart
}

type opStmt struct {
	compiled
	min, max int64
}

type keyPart struct{ text, param string }

var (
	nameOK    = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,63}$`)
	paramOK   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	keyInside = regexp.MustCompile(`\{([^{}]*)\}`)
)

// compile checks an operation and reports all that is wrong with it.
func (o Operation) compile() (*operation, error) {
	c := &operation{Operation: o, params: map[string]*param{}}
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("operation %q: "+format, append([]any{o.Name}, args...)...))
	}
	if !nameOK.MatchString(o.Name) {
		bad("the name must be lower case letters, digits, '_', '.' and '-', up to 64")
	}
	for _, p := range o.Params {
		cp, err := p.compile()
		if err != nil {
			bad("parameter %q: %w", p.Name, err)
			continue
		}
		if c.params[p.Name] != nil {
			bad("parameter %q is declared twice", p.Name)
		}
		c.params[p.Name] = cp
	}
	if len(o.Statements) == 0 {
		bad("it has no statements")
	}
	used := map[string]bool{}
	for i, s := range o.Statements {
		st, err := s.compileFor(c, used, i)
		if err != nil {
			bad("statement %d: %w", i+1, err)
			continue
		}
		c.stmts = append(c.stmts, st)
	}
	c.key, errs = keyTemplate(o, c.params, used, errs)
	for _, p := range o.Params {
		if !used[p.Name] {
			bad("parameter %q is never used", p.Name)
		}
	}
	if err := idOrder(c.stmts); err != nil {
		bad("%w", err)
	}
	return c, errors.Join(errs...)
}

func (s Statement) compileFor(o *operation, used map[string]bool, _ int) (opStmt, error) {
	if len(s.Args) > 0 {
		return opStmt{}, errors.New("an operation binds :names, not args")
	}
	c, p := guard(s.SQL, allow{call: o.Call})
	if p != nil {
		return opStmt{}, p
	}
	for _, name := range c.params {
		if name == "" {
			return opStmt{}, errors.New("an operation binds :names, not ?")
		}
		if o.params[name] == nil {
			return opStmt{}, fmt.Errorf(":%s is not a declared parameter", name)
		}
		used[name] = true
	}
	lo, hi, p := s.expect()
	if p != nil {
		return opStmt{}, p
	}
	return opStmt{c, lo, hi}, nil
}

func keyTemplate(o Operation, params map[string]*param, used map[string]bool, errs []error) ([]keyPart, []error) {
	var parts []keyPart
	at := 0
	for _, m := range keyInside.FindAllStringSubmatchIndex(o.Key, -1) {
		name := o.Key[m[2]:m[3]]
		if params[name] == nil {
			errs = append(errs, fmt.Errorf("operation %q: key: {%s} is not a declared parameter", o.Name, name))
		}
		used[name] = true
		parts = append(parts, keyPart{text: o.Key[at:m[0]]}, keyPart{param: name})
		at = m[1]
	}
	if at < len(o.Key) {
		parts = append(parts, keyPart{text: o.Key[at:]})
	}
	return parts, errs
}

// idOrder: LAST_INSERT_ID() may only look at an INSERT of the same write.
func idOrder(stmts []opStmt) error {
	inserted := false
	for _, s := range stmts {
		if s.resetID && !inserted {
			return errors.New("LAST_INSERT_ID() without an INSERT before it in the same write is that of somebody else")
		}
		inserted = inserted || s.verb == "INSERT"
	}
	return nil
}

// Operations is the set a service knows; replaced as a whole, read without locks.
type Operations struct {
	set atomic.Pointer[map[string]*operation]
}

// NewOperations checks all of list and reports every mistake at once.
func NewOperations(list []Operation) (*Operations, error) {
	o := &Operations{}
	return o, o.Replace(list)
}

// Replace takes a new list over, or none of it if there is a mistake in it.
func (o *Operations) Replace(list []Operation) error {
	set := make(map[string]*operation, len(list))
	var errs []error
	for _, op := range list {
		c, err := op.compile()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if set[op.Name] != nil {
			errs = append(errs, fmt.Errorf("operation %q is declared twice", op.Name))
		}
		set[op.Name] = c
	}
	if err := errors.Join(errs...); err != nil {
		if o.set.Load() == nil {
			o.set.Store(&map[string]*operation{})
		}
		return err
	}
	o.set.Store(&set)
	return nil
}

// List is the declared operations, in no order.
func (o *Operations) List() []Operation {
	var out []Operation
	for _, c := range *o.set.Load() {
		out = append(out, c.Operation)
	}
	return out
}

func (o *Operations) get(name string) *operation { return (*o.set.Load())[name] }
