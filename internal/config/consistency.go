package config

import (
	"fmt"
	"strings"

	"github.com/perdure/perdure/internal/consistency"
	"github.com/perdure/perdure/internal/schedule"
)

// Consistency is how the members' data are compared.
type Consistency struct {
	User     string   `yaml:"user" json:"user" doc:"Account that reads what is compared. 'perdure consistency grants' prints what it needs: SELECT and nothing else."`
	Password string   `yaml:"password" json:"password" doc:"Reference to its password: file:PATH or env:NAME."`
	Schemas  []string `yaml:"schemas,omitempty" json:"schemas,omitempty" doc:"Compare only these schemas. Default: all but the server's own."`
	Tables   []string `yaml:"tables,omitempty" json:"tables,omitempty" doc:"Compare these tables, as schema.table, besides the schemas named."`
	Exclude  []string `yaml:"exclude,omitempty" json:"exclude,omitempty" doc:"Leave these out: schema or schema.table."`
	Busy     float64  `yaml:"busy_share,omitempty" json:"busy_share,omitempty" minimum:"0" maximum:"1" doc:"How much of the time a member works for an audit while it has other work. Default 0.03."`
	Idle     float64  `yaml:"idle_share,omitempty" json:"idle_share,omitempty" minimum:"0" maximum:"1" doc:"The same while it has none. Default 0.5."`
	Keep     int      `yaml:"keep,omitempty" json:"keep,omitempty" minimum:"0" maximum:"200" doc:"How many audits are kept, with their reports. Default 30."`
}

// Scope is what is compared unless somebody says otherwise.
func (c *Consistency) Scope() consistency.Scope {
	return consistency.Scope{Schemas: c.Schemas, Tables: c.Tables, Exclude: c.Exclude}
}

// Upkeep is what a cluster does by itself to stay as it should be.
type Upkeep struct {
	Consistency *Consistency     `yaml:"consistency,omitempty" json:"consistency,omitempty" doc:"Comparing the members' data. Without this section there are no consistency audits."`
	Schedules   []schedule.Entry `yaml:"schedules,omitempty" json:"schedules,omitempty" doc:"What begins at times: consistency audits, stop and start of the group, rolling restarts."`
}

func (f *File) checkUpkeep(c *checker) {
	if k := f.Consistency; k != nil {
		if k.User == "" {
			c.at("$.consistency.user", "the account that reads what is compared is missing")
		}
		c.reference("$.consistency.password", k.Password)
		for _, e := range each(k.Scope().Check()) {
			path, text, _ := strings.Cut(e.Error(), ": ")
			c.at("$.consistency."+path, "%s", text)
		}
		for key, share := range map[string]float64{"busy_share": k.Busy, "idle_share": k.Idle} {
			if share < 0 || share > 1 {
				c.at("$.consistency."+key, "a part of the time, 0.001 to 1, not %v", share)
			}
		}
		if k.Keep < 0 || k.Keep > 200 {
			c.at("$.consistency.keep", "1 to 200, not %d", k.Keep)
		}
	}
	for _, e := range each(schedule.Check(f.Schedules)) {
		path, text, _ := strings.Cut(e.Error(), ": ")
		c.at("$."+path, "%s", text)
	}
	for i, s := range f.Schedules {
		if s.Do == schedule.Consistency && f.Consistency == nil {
			c.at(fmt.Sprintf("$.schedules[%d].do", i), "an audit needs the section consistency, with an account that may read")
		}
	}
}
