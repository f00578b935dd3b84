package arch

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated parts of docs anew")

// What stands between these two lines of a page is made from the program.
const (
	beginMark = "<!-- made by `make docs`; do not edit below this line -->\n"
	endMark   = "<!-- end -->\n"
)

func TestCommandReferenceSaysWhatTheProgramSays(t *testing.T) {
	t.Parallel()
	var page strings.Builder
	globals := commands(t, &page)
	fmt.Fprintf(&page, "## Flags of every command\n\n```\n%s```\n\n", globals)
	generated(t, "cli.md", page.String())
}

// commands writes a section for each command, parents before children, and
// returns the flags they all have.
func commands(t *testing.T, page *strings.Builder, path ...string) (globals string) {
	t.Helper()
	help := run(t, append(slices.Clone(path), "--help")...)
	help, globals, _ = strings.Cut(help, "Global Flags:\n")
	globals, _, _ = strings.Cut(globals, "\nUse \"")
	help, _, _ = strings.Cut(help, "\nUse \"")
	body, list, _ := strings.Cut(help, "Available Commands:\n")
	list, flags, _ := strings.Cut(list, "\n\n")
	if len(path) > 0 { // the page itself begins with better words than the program
		depth := strings.Repeat("#", len(path)+1)
		text := strings.TrimSpace(body + "\n\n" + flags)
		fmt.Fprintf(page, "%s perdure %s\n\n```\n%s\n```\n\n", depth, strings.Join(path, " "), withoutHelp(text))
	}
	for line := range strings.Lines(list) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || len(path) == 0 && (name == "help" || name == "completion") {
			continue
		}
		globals = commands(t, page, append(slices.Clone(path), name)...)
	}
	return globals
}

var (
	helpFlag  = regexp.MustCompile(`(?m)^  -h, --help .*\n?`)
	noFlags   = regexp.MustCompile(`\n*Flags:\n*$`)
	flagsNote = regexp.MustCompile(`(?m)^  perdure .* \[flags\]\n  (perdure .* \[command\])$`)
)

// withoutHelp drops what is the same for all: --help, and that a command that
// only has subcommands can also be called alone.
func withoutHelp(text string) string {
	text = helpFlag.ReplaceAllString(text, "")
	text = flagsNote.ReplaceAllString(text, "  $1")
	return strings.TrimSpace(noFlags.ReplaceAllString(text, ""))
}

func TestConfigurationReferenceSaysWhatTheProgramReads(t *testing.T) {
	t.Parallel()
	var file struct {
		schema
		Defs map[string]*schema `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(run(t, "config", "schema")), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Properties) == 0 {
		t.Fatal("the schema names no keys")
	}
	var page strings.Builder
	sections(&page, file.Defs, &file.schema, "The file")
	generated(t, "configuration.md", page.String())
}

// schema is the little of JSON Schema that our file needs.
type schema struct {
	Ref         string             `json:"$ref"`
	Type        any                `json:"type"`
	Description string             `json:"description"`
	Enum        []any              `json:"enum"`
	Items       *schema            `json:"items"`
	Values      json.RawMessage    `json:"additionalProperties"`
	Properties  map[string]*schema `json:"properties"`
	Required    []string           `json:"required"`
}

// sections writes a table for s, and then one for each object below it.
func sections(page *strings.Builder, defs map[string]*schema, s *schema, title string) {
	fmt.Fprintf(page, "## %s\n\n| key | value | meaning |\n|---|---|---|\n", title)
	type child struct {
		title string
		s     *schema
	}
	var below []child
	for _, name := range keys(s) {
		p := s.Properties[name]
		value, inner := kind(defs, p)
		if inner != nil {
			below = append(below, child{strings.TrimPrefix(title+"."+name, "The file."), inner})
		}
		if slices.Contains(s.Required, name) {
			value += ", required"
		}
		fmt.Fprintf(page, "| `%s` | %s | %s |\n", name, value, strings.ReplaceAll(p.Description, "|", "\\|"))
	}
	page.WriteString("\n")
	for _, c := range below {
		sections(page, defs, c.s, c.title)
	}
}

// keys sorts the required ones first, then by name.
func keys(s *schema) []string {
	var out []string
	for name := range s.Properties {
		out = append(out, name)
	}
	slices.SortFunc(out, func(a, b string) int {
		if x, y := slices.Contains(s.Required, a), slices.Contains(s.Required, b); x != y {
			if x {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return out
}

// kind says what a value looks like, and gives the object it is made of.
func kind(defs map[string]*schema, p *schema) (string, *schema) {
	if p.Ref != "" {
		def := defs[strings.TrimPrefix(p.Ref, "#/$defs/")]
		if len(def.Properties) == 0 {
			return kind(defs, def)
		}
		return "block", def
	}
	if len(p.Enum) > 0 {
		var out []string
		for _, v := range p.Enum {
			out = append(out, fmt.Sprintf("`%v`", v))
		}
		return strings.Join(out, ", "), nil
	}
	t, ok := p.Type.(string)
	if several, is := p.Type.([]any); !ok && is && len(several) > 0 {
		t, _ = several[0].(string)
	}
	switch t {
	case "array":
		one, inner := kind(defs, p.Items)
		if inner != nil {
			return "list of blocks", inner
		}
		return "list of " + one, nil
	case "object":
		var values schema
		if json.Unmarshal(p.Values, &values) == nil && (values.Ref != "" || values.Type != nil) {
			one, inner := kind(defs, &values)
			return one + " by name", inner
		}
		return "block", p
	case "string":
		return "text", nil
	case "boolean":
		return "yes or no", nil
	}
	return "number", nil
}

// generated compares the generated part of a page, or writes it with -update.
func generated(t *testing.T, page, want string) {
	t.Helper()
	path := filepath.Join(root(t), "docs", page)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), beginMark)
	have, after, closed := strings.Cut(rest, endMark)
	if !ok || !closed {
		t.Fatalf("docs/%s needs the lines\n%sand\n%s", page, beginMark, endMark)
	}
	want = "\n" + want
	if have == want {
		return
	}
	if !*update {
		t.Errorf("docs/%s does not say what the program says: run `make docs` and read the difference", page)
		return
	}
	if err := os.WriteFile(path, []byte(before+beginMark+want+endMark+after), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs the program, away from every configuration and environment.
func run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t), args...)
	cmd.Dir, cmd.Env = t.TempDir(), []string{"HOME=/nonexistent"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("perdure %s: %v", strings.Join(args, " "), err)
	}
	return string(bytes.ReplaceAll(out, []byte("\r"), nil))
}

func TestArchitecturePageNamesEveryPackage(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(root(t), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages(t) {
		if !strings.Contains(string(b), "`"+p.name+"`") {
			t.Errorf("docs/architecture.md does not say what `%s` is for", p.name)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	t.Parallel()
	top := root(t)
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != top:
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: the link %s leads nowhere", strings.TrimPrefix(path, top+"/"), m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
