package check

import (
	"slices"
	"strings"
)

// held is what SHOW GRANTS says an account may do.
type held struct {
	rights map[string]map[string]bool // place → right → may be passed on
	roles  []string
	taken  map[string]map[string]bool // place → right, by a partial revoke
}

// super stands for these on servers that still know it.
var super = []string{"GROUP_REPLICATION_ADMIN", "SYSTEM_VARIABLES_ADMIN", "REPLICATION_SLAVE_ADMIN", "CONNECTION_ADMIN"}

// parseGrants reads the lines of SHOW GRANTS. Active roles are in them as if
// their rights were the account's own; the roles themselves are listed too.
func parseGrants(lines []string) held {
	h := held{rights: map[string]map[string]bool{}, taken: map[string]map[string]bool{}}
	for _, line := range lines {
		words := split(line)
		if len(words) < 2 {
			continue
		}
		on, to := find(words, "ON"), find(words, "TO")
		switch words[0] {
		case "GRANT":
			if on < 0 || to < on { // GRANT `role`@`%` TO …
				h.roles = append(h.roles, strings.Join(words[1:max(1, to)], " "))
				continue
			}
			h.add(h.rights, words[1:on], words[on+1:to], strings.HasSuffix(line, " WITH GRANT OPTION"))
		case "REVOKE":
			if from := find(words, "FROM"); on > 0 && from > on {
				h.add(h.taken, words[1:on], words[on+1:from], false)
			}
		}
	}
	return h
}

func (h held) add(to map[string]map[string]bool, rights, on []string, pass bool) {
	place := bare(strings.Join(on, " "))
	if to[place] == nil {
		to[place] = map[string]bool{}
	}
	for right := range strings.SplitSeq(strings.Join(rights, " "), ",") {
		right = strings.TrimSpace(right)
		if strings.Contains(right, "(") { // only some columns
			continue
		}
		to[place][right] = to[place][right] || pass
	}
}

// holds tells whether the account has the right at the place.
func (h held) holds(right, on string) bool {
	_, found := h.at(right, on)
	return found
}

// mayPass tells whether it may also give it to others.
func (h held) mayPass(right, on string) bool {
	pass, _ := h.at(right, on)
	return pass
}

func (h held) at(right, on string) (pass, found bool) {
	on = bare(on)
	for place, rights := range h.rights {
		if !covers(place, on) {
			continue
		}
		if place == everywhere && h.revoked(right, on) {
			continue
		}
		for _, r := range []string{right, "ALL PRIVILEGES", "ALL"} {
			if p, ok := rights[r]; ok {
				found, pass = true, pass || p
			}
		}
		if _, ok := rights["SUPER"]; ok && place == everywhere {
			found = found || slices.Contains(super, right)
		}
	}
	return pass, found
}

func (h held) revoked(right, on string) bool {
	for place, rights := range h.taken {
		if _, ok := rights[right]; ok && covers(place, on) {
			return true
		}
	}
	return false
}

// hidden names the schemas of users whose tables the account does not see,
// because a partial revoke took all that shows them.
func (h held) hidden() []string {
	var out []string
	for place := range h.taken {
		schema, whole := strings.CutSuffix(place, ".*")
		sees := slices.ContainsFunc(append([]string{"REFERENCES"}, visible...), func(r string) bool { return h.holds(r, place) })
		if whole && !sees && !strings.Contains(systemSchemas, text(schema)) {
			out = append(out, schema)
		}
	}
	slices.Sort(out)
	return out
}

// covers tells whether a right at place reaches on. A grant on a schema takes
// its name as a pattern.
func covers(place, on string) bool {
	if place == on || place == everywhere {
		return true
	}
	schema, whole := strings.CutSuffix(place, ".*")
	if !whole {
		return false
	}
	of, _, _ := strings.Cut(strings.TrimPrefix(on, "PROCEDURE "), ".")
	return like(schema, of)
}

// like matches s against a pattern with % and _, either escaped by \.
func like(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	switch c := pattern[0]; {
	case c == '%':
		for i := 0; i <= len(s); i++ {
			if like(pattern[1:], s[i:]) {
				return true
			}
		}
		return false
	case c == '\\' && len(pattern) > 1:
		return s != "" && s[0] == pattern[1] && like(pattern[2:], s[1:])
	case c == '_':
		return s != "" && like(pattern[1:], s[1:])
	default:
		return s != "" && s[0] == c && like(pattern[1:], s[1:])
	}
}

// split cuts a line at blanks outside quotes. Quotes stay on.
func split(line string) []string {
	var words []string
	start, quote := 0, byte(0)
	for i := range len(line) {
		switch c := line[i]; {
		case quote != 0:
			if c == quote {
				quote = 0 // a doubled quote opens again at once
			}
		case c == '`' || c == '"' || c == '\'':
			quote = c
		case c == ' ':
			if i > start {
				words = append(words, line[start:i])
			}
			start = i + 1
		}
	}
	return append(words, line[start:])
}

func find(words []string, word string) int {
	for i, w := range words {
		if w == word {
			return i
		}
	}
	return -1
}

// bare takes the quotes off a place such as `mysql`.`plugin`.
func bare(place string) string {
	return strings.NewReplacer("`", "", `"`, "").Replace(place)
}
