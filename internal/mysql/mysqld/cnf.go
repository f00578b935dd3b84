package mysqld

import (
	"fmt"
	"maps"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strings"
)

// cnf is the [mysqld] section of an option file. A later value of a name
// replaces the earlier one, except for plugin_load_add, which adds up.
type cnf struct {
	names  []string
	values map[string][]string
}

func (c *cnf) set(name, value string) {
	name = normalise(name)
	if c.values == nil {
		c.values = map[string][]string{}
	}
	if _, known := c.values[name]; !known {
		c.names = append(c.names, name)
	}
	if name == "plugin_load_add" {
		c.values[name] = append(c.values[name], value)
		return
	}
	c.values[name] = []string{value}
}

// normalise brings the two spellings MySQL allows to one.
func normalise(name string) string { return strings.ReplaceAll(strings.TrimSpace(name), "-", "_") }

var settingName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.]*$`)

func (c *cnf) text() (string, error) {
	var b strings.Builder
	b.WriteString("# Written by perdure at every start; changes made here do not last.\n[mysqld]\n")
	for _, name := range c.names {
		if !settingName.MatchString(name) {
			return "", fmt.Errorf("setting %q is not the name of a variable", name)
		}
		for _, value := range c.values[name] {
			if strings.ContainsAny(value, "\n\r\x00") {
				return "", fmt.Errorf("setting %s: a value cannot hold a line break", name)
			}
			// Quoted, because an option file takes a bare # as a comment.
			fmt.Fprintf(&b, "%s = \"%s\"\n", name, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value))
		}
	}
	return b.String(), nil
}

// write replaces the file in one step; only its owner can read it.
func (c *cnf) write(path string) error {
	text, err := c.text()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// places tells a server where its own parts lie. A packaged server knows, one
// unpacked into a private directory does not.
func (b Binary) places() *cnf {
	c := &cnf{}
	c.set("basedir", b.BaseDir)
	c.set("plugin_dir", b.PluginDir)
	c.set("lc_messages_dir", b.MessagesDir)
	// No reading or writing of files over SQL. Without a value, packaged servers
	// look for /var/lib/mysql-files and die when it is missing.
	c.set("secure_file_priv", "NULL")
	c.set("log_timestamps", "UTC")
	// As root mysqld wants to be told that this is meant. It must be our own
	// user: changing it would also clear the parent-death signal.
	if os.Getuid() == 0 {
		name := "root"
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
		c.set("user", name)
	}
	return c
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
