package gtid

import "strconv"

// String gives the server's own text: sources in order, intervals joined, a
// comma and a newline between UUIDs; "" for the empty set.
func (s Set) String() string { return string(s.append(nil)) }

// MarshalText gives the same text as String.
func (s Set) MarshalText() ([]byte, error) { return s.append([]byte{}), nil }

// UnmarshalText replaces s by what Parse reads.
func (s *Set) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

func (s Set) append(b []byte) []byte {
	for i, p := range s.parts {
		switch {
		case i == 0:
			b = p.source.append(b)
		case p.source.UUID != s.parts[i-1].source.UUID:
			b = p.source.append(append(b, ",\n"...))
		default:
			// The UUID stands already. Untagged comes first, so this has a tag.
			b = append(append(b, ':'), p.source.Tag.name...)
		}
		for _, sp := range p.spans {
			b = strconv.AppendUint(append(b, ':'), sp.first, 10)
			if sp.last > sp.first {
				b = strconv.AppendUint(append(b, '-'), sp.last, 10)
			}
		}
	}
	return b
}
