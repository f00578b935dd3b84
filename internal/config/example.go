package config

import (
	"encoding/json"
	"maps"
	"path"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Example is a commented file to begin with.
const Example = `# perdure.yaml: one cluster, as it should be. Check it with: perdure config check
# yaml-language-server: $schema=perdure.schema.json   (perdure config schema > perdure.schema.json)
version: 1
cluster: shop

node:
  name: node1
  data: /var/lib/perdure
  api: 127.0.0.1:7040

# The account nodes use on every member. "perdure check grants" prints what it needs.
mysql:
  user: perdure
  password: file:/etc/perdure/mysql.password   # or env:NAME; mode 0600
  # ca: /etc/perdure/mysql-ca.pem              # verify the members' certificates

group:
  mode: multi-primary          # or single-primary; can be switched online
  consistency: BEFORE_ON_PRIMARY_FAILOVER
  # transaction_limit: 150000000
  # expel_timeout: 5

members:
  - {name: m1, address: 192.0.2.11:3306, zone: a}
  - {name: m2, address: 192.0.2.12:3306, zone: b}
  - {name: m3, address: 192.0.2.13:3306, zone: c}

# Compare what the members hold, every night. "perdure consistency grants" makes the account.
# consistency:
#   user: auditor
#   password: file:/etc/perdure/auditor.password
# schedules:
#   - {name: nightly-audit, do: consistency, at: "0 3 * * *", zone: Europe/Berlin, missed: run, within: 4h}
`

// Schema is the JSON Schema of the file, made from the same types that read it.
func Schema() ([]byte, error) {
	registry := huma.NewMapRegistry("#/$defs/", func(t reflect.Type, hint string) string {
		name := huma.DefaultSchemaNamer(t, hint)
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if pkg := path.Base(t.PkgPath()); t.Name() != "" && pkg != "config" && pkg != "api" { // packages call things alike
			return strings.ToUpper(pkg[:1]) + pkg[1:] + name
		}
		return name
	})
	root := registry.Schema(reflect.TypeFor[File](), false, "File")
	defs := map[string]*huma.Schema{}
	maps.Copy(defs, registry.Map())
	b, err := json.Marshal(root)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	m["$schema"], m["title"], m["$defs"] = "https://json-schema.org/draft/2020-12/schema", "perdure.yaml", defs
	return json.MarshalIndent(m, "", "  ")
}
