package config

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/perdure/perdure/internal/topology"
)

// plain words for what the YAML library reports: the place and the line stay.
func plain(err error) string {
	text := yaml.FormatError(err, false, true)
	text = goType.ReplaceAllString(text, "this value should be of another kind: $2, not $1")
	for from, to := range map[string]string{
		"of kind: string,": "of kind: text,", "string was used where mapping is expected": "a single value stands where a block with keys is expected",
		"sequence was used where mapping is expected": "a list stands where a block with keys is expected",
	} {
		text = strings.ReplaceAll(text, from, to)
	}
	return text
}

var goType = regexp.MustCompile(`cannot unmarshal (\S+) into Go (?:struct field \S+|value) of type (\S+)`)

var (
	word     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	variants = map[string][]string{
		"mode":         {string(topology.MultiPrimary), string(topology.SinglePrimary)},
		"consistency":  {"EVENTUAL", "BEFORE_ON_PRIMARY_FAILOVER", "BEFORE", "AFTER", "BEFORE_AND_AFTER"},
		"flow_control": {"QUOTA", "DISABLED"},
		"ssl_mode":     {"REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"},
	}
)

// checker collects mistakes, each with the lines of the file it is about.
type checker struct {
	source []byte
	found  []error
}

// at reports a mistake at a path such as "$.members[1].name". A path that the
// file does not have gives the text alone.
func (c *checker) at(path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for p := path; p != "$" && p != ""; p = parent(p) {
		yp, err := yaml.PathString(p)
		if err != nil {
			break
		}
		if lines, err := yp.AnnotateSource(c.source, false); err == nil {
			text += "\n" + strings.TrimRight(string(lines), "\n")
			break
		}
	}
	c.found = append(c.found, errors.New(strings.TrimPrefix(path, "$.")+": "+text))
}

func parent(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

// check returns everything that is wrong with the file.
func (f *File) check(source []byte) []error {
	c := &checker{source: source}
	if f.Version != 1 {
		c.at("$.version", "this program reads version 1 of the file, not %d", f.Version)
	}
	if !word.MatchString(f.Cluster) {
		c.at("$.cluster", "a cluster's name is 1 to 32 lower-case letters, digits and dashes, not %q", f.Cluster)
	}
	f.checkNode(c)
	f.checkMySQL(c)
	f.checkControl(c)
	f.checkGroup(c)
	f.checkMembers(c)
	f.checkProxy(c)
	f.checkQueue(c)
	f.checkNotice(c)
	f.checkUpkeep(c)
	return c.found
}

func (f *File) checkNode(c *checker) {
	if f.Node.Name != "" && !word.MatchString(strings.ToLower(strings.ReplaceAll(f.Node.Name, ".", "-"))) {
		c.at("$.node.name", "a node's name is letters, digits, dots and dashes, not %q", f.Node.Name)
	}
	if f.Node.API != "" {
		c.address("$.node.api", f.Node.API)
	}
	for key, a := range map[string]string{"peer": f.Node.Peer, "streams": f.Node.Streams} {
		if a != "" {
			c.address("$.node."+key, a)
		}
	}
	if f.Node.Peer != "" && len(f.Control.Peers)+len(f.Control.Endpoints)+len(f.Streams.Peers)+len(f.Streams.URLs) > 0 {
		c.at("$.node.peer", "nodes either come by command, with node.peer, or are listed under control and streams, not both")
	}
	if f.Node.Log != "" && f.Node.Log != "text" && f.Node.Log != "json" {
		c.at("$.node.log", "text or json, not %q", f.Node.Log)
	}
}

func (f *File) checkMySQL(c *checker) {
	if f.MySQL.User == "" {
		c.at("$.mysql.user", "the account that nodes use on the members is missing")
	}
	c.reference("$.mysql.password", f.MySQL.Password)
}

func (f *File) checkControl(c *checker) {
	k := f.Control
	if len(k.Peers) > 0 && len(k.Endpoints) > 0 {
		c.at("$.control", "either peers of the embedded store or endpoints of an external one, not both")
	}
	if n := len(k.Peers); n > 0 && n != 1 && n != 3 && n != 5 {
		c.at("$.control.peers", "one, three or five nodes, not %d: an even number tolerates no more than the odd one below it", n)
	}
	seen := map[string]bool{}
	for i, p := range k.Peers {
		path := fmt.Sprintf("$.control.peers[%d]", i)
		if p.Name == "" || seen[p.Name] {
			c.at(path+".name", "every peer needs a name of its own, %q is missing or twice", p.Name)
		}
		seen[p.Name] = true
		c.address(path+".address", p.Address)
	}
	if len(k.Peers) > 1 && (k.CA == "" || k.Cert == "" || k.Key == "") {
		c.at("$.control", "several nodes talk over TLS only: set ca, cert and key")
	}
	if k.Password != "" {
		c.reference("$.control.password", k.Password)
	}
}

func (f *File) checkGroup(c *checker) {
	g := f.Group
	for name, value := range map[string]string{"mode": string(g.Mode), "consistency": g.Consistency, "flow_control": g.FlowControl, "ssl_mode": g.SSLMode} {
		if value != "" && !slices.Contains(variants[name], value) {
			c.at("$.group."+name, "%q is none of %s", value, strings.Join(variants[name], ", "))
		}
	}
	for name, v := range map[string]int{"flow_threshold": g.FlowThreshold, "transaction_limit": g.TransactionLimit} {
		if v < 0 || v > 1<<31-1 {
			c.at("$.group."+name, "0 to 2147483647, not %d", v)
		}
	}
	if e := g.ExpelTimeout; e != nil && (*e < 0 || *e > 3600) {
		c.at("$.group.expel_timeout", "0 to 3600 seconds, not %d", *e)
	}
	if g.Sites < 0 || g.Sites > 16 {
		c.at("$.group.sites", "1 to 16, not %d", g.Sites)
	}
	if sites := max(g.Sites, 3*b2i(g.Sites == 0)); g.Site < 0 || g.Site > sites {
		c.at("$.group.site", "1 to %d, the number of sites, not %d", sites, g.Site)
	}
	if g.PaxosSingleLeader && g.Mode != topology.SinglePrimary {
		c.at("$.group.paxos_single_leader", "only with mode single-primary: elsewhere every member leads")
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (f *File) checkMembers(c *checker) {
	if n := len(f.Members); n < 1 || n > 9 {
		c.at("$.members", "a group has one to nine members, not %d", n)
	}
	byName, byAddress := map[string]bool{}, map[string]string{}
	for i, m := range f.Members {
		path := fmt.Sprintf("$.members[%d]", i)
		switch {
		case !word.MatchString(m.Name):
			c.at(path+".name", "a member's name is 1 to 32 lower-case letters, digits and dashes, not %q", m.Name)
		case byName[m.Name]:
			c.at(path+".name", "two members are called %s", m.Name)
		}
		byName[m.Name] = true
		for _, a := range []struct{ key, value string }{{"address", m.Address}, {"group_address", m.GroupAddress}} {
			if a.value == "" && a.key == "group_address" {
				continue
			}
			if !c.address(path+"."+a.key, a.value) {
				continue
			}
			if other, taken := byAddress[a.value]; taken {
				c.at(path+"."+a.key, "%s is the address of %s already", a.value, other)
			}
			byAddress[a.value] = m.Name
		}
		if m.Weight < 0 || m.Weight > 100 {
			c.at(path+".weight", "0 to 100, not %d", m.Weight)
		}
		if _, port, err := net.SplitHostPort(m.Address); err == nil && m.GroupAddress == "" {
			if n, _ := strconv.Atoi(port); n*10+1 > 65535 {
				c.at(path, "the port %s leaves no room for the usual group port (port times ten plus one); set group_address", port)
			}
		}
	}
}

// address tells whether a is host:port.
func (c *checker) address(path, a string) bool {
	host, port, err := net.SplitHostPort(a)
	if n, e := strconv.Atoi(port); err != nil || e != nil || n < 1 || n > 65535 || host == "" {
		c.at(path, "%q is not host:port", a)
		return false
	}
	return true
}

// reference checks that a secret is given by reference. The value itself is
// never repeated: it may be the secret.
func (c *checker) reference(path, value string) {
	if _, _, ok := strings.Cut(value, ":"); ok && (strings.HasPrefix(value, "file:") || strings.HasPrefix(value, "env:")) {
		return
	}
	c.found = append(c.found, errors.New(strings.TrimPrefix(path, "$.")+": a password is named by reference, file:PATH or env:NAME; the value itself must not stand in the file"))
}
