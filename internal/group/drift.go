package group

import (
	"context"

	"github.com/perdure/perdure/internal/mysql"
)

// Astray is a setting of a member that is not what was asked for.
type Astray struct{ Name, Want, Have string }

// Astray compares a member's settings with those the cluster wants, as they are
// now. While a change is running they may differ for good reason. It changes
// nothing. A server that is no member has nothing to differ from.
func (g *Group) Astray(ctx context.Context, server *mysql.Server) ([]Astray, error) {
	c, err := g.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range c.Members {
		if m.Name != server.Name() {
			continue
		}
		want, err := settings(&c, m)
		if err != nil {
			return nil, err
		}
		var names []string
		for _, s := range want {
			names = append(names, s.name)
		}
		have, err := server.Variables(ctx, names...)
		if err != nil {
			return nil, err
		}
		var out []Astray
		seen := map[string]bool{}
		for _, s := range differing(want, have) {
			if !seen[s.name] { // one may be wanted twice, for the order's sake
				seen[s.name] = true
				out = append(out, Astray{Name: s.name, Want: last(want, s.name), Have: have[s.name]})
			}
		}
		return out, nil
	}
	return nil, nil
}

// last is the value a setting shall have in the end.
func last(want []setting, name string) (value string) {
	for _, s := range want {
		if s.name == name {
			value = s.value
		}
	}
	return value
}
