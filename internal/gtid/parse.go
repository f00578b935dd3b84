package gtid

// Parse reads a set from text; see the package's page for the grammar. The
// error is a [*SyntaxError] that names the place.
func Parse(text string) (Set, error) {
	r := reader{what: "GTID set", text: text}
	var b builder
	r.space()
	for {
		for r.peek() == ',' {
			r.at++
			r.space()
		}
		if r.done() {
			return b.set(), nil
		}
		if err := r.item(&b); err != nil {
			return Set{}, err
		}
		if !r.done() && r.peek() != ',' {
			return Set{}, r.wanted(`"," or ":"`)
		}
	}
}

// MustParse is Parse for text known to be right, such as constants in tests.
// It panics otherwise.
func MustParse(text string) Set {
	s, err := Parse(text)
	if err != nil {
		panic(err)
	}
	return s
}

// item reads a UUID with its tags and intervals, and the space behind it.
func (r *reader) item(b *builder) error {
	id, err := r.uuid()
	if err != nil {
		return err
	}
	source := Source{UUID: id}
	r.space()
	for r.peek() == ':' {
		r.at++
		r.space()
		if isTagStart(r.peek()) {
			source.Tag, err = r.tag(source.Tag)
		} else {
			err = r.interval(b, source)
		}
		if err != nil {
			return err
		}
		r.space()
	}
	return nil
}

func (r *reader) interval(b *builder, source Source) error {
	first, err := r.number(1)
	if err != nil {
		return err
	}
	last := first
	r.space()
	if r.peek() == '-' {
		r.at++
		r.space()
		// Zero is allowed here: "1-0" is an empty interval like "5-3".
		if last, err = r.number(0); err != nil {
			return err
		}
	}
	if first <= last {
		b.add(source, span{first, last})
	}
	return nil
}
