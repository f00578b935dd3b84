package mysql

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Variables reads global system variables. Names the server does not know are
// missing in the answer.
func (s *Server) Variables(ctx context.Context, names ...string) (map[string]string, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	args := make([]any, len(names))
	for i, n := range names {
		args[i] = n
	}
	//nolint:gosec // question marks only
	query := `SELECT VARIABLE_NAME, COALESCE(VARIABLE_VALUE, '') FROM performance_schema.global_variables
		WHERE VARIABLE_NAME IN (?` + strings.Repeat(",?", max(0, len(names)-1)) + ")"
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.wrap(ctx, "read its settings", err)
	}
	defer func() { _ = rows.Close() }()
	out := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, s.wrap(ctx, "read its settings", err)
		}
		out[name] = value
	}
	return out, s.wrap(ctx, "read its settings", rows.Err())
}

// Fleeting names those of the settings whose present value would not survive a
// restart: it was set while the server runs, and something else, or nothing, is
// persisted.
func (s *Server) Fleeting(ctx context.Context, names ...string) (map[string]bool, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	args := make([]any, len(names))
	for i, n := range names {
		args[i] = n
	}
	//nolint:gosec // question marks only
	rows, err := s.db.QueryContext(ctx, `SELECT i.VARIABLE_NAME
		FROM performance_schema.variables_info i
		JOIN performance_schema.global_variables g ON g.VARIABLE_NAME = i.VARIABLE_NAME
		LEFT JOIN performance_schema.persisted_variables p ON p.VARIABLE_NAME = i.VARIABLE_NAME
		WHERE i.VARIABLE_SOURCE IN ('DYNAMIC', 'PERSISTED')
		AND NOT COALESCE(CASE p.VARIABLE_VALUE WHEN '1' THEN 'ON' WHEN '0' THEN 'OFF' ELSE p.VARIABLE_VALUE END
			= CASE g.VARIABLE_VALUE WHEN '1' THEN 'ON' WHEN '0' THEN 'OFF' ELSE g.VARIABLE_VALUE END, FALSE)
		AND i.VARIABLE_NAME IN (?`+strings.Repeat(",?", max(0, len(names)-1))+")", args...)
	if err != nil {
		return nil, s.wrap(ctx, "read its persisted settings", err)
	}
	defer func() { _ = rows.Close() }()
	out := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, s.wrap(ctx, "read its persisted settings", err)
		}
		out[name] = true
	}
	return out, s.wrap(ctx, "read its persisted settings", rows.Err())
}

var variableName = regexp.MustCompile(`^[a-z][a-z0-9_.]*$`)

// Persist sets global variables now and for every later start of the server,
// in the order of their names. It stops at the first the server refuses.
func (s *Server) Persist(ctx context.Context, values map[string]string) error {
	return s.assign(ctx, "PERSIST", values)
}

// SetGlobal sets global variables until the server stops.
func (s *Server) SetGlobal(ctx context.Context, values map[string]string) error {
	return s.assign(ctx, "GLOBAL", values)
}

// PersistOnly sets global variables for every later start of the server, and
// leaves their present values alone.
func (s *Server) PersistOnly(ctx context.Context, values map[string]string) error {
	return s.assign(ctx, "PERSIST_ONLY", values)
}

// Unpersist forgets what was persisted for a variable; unknown names are fine.
func (s *Server) Unpersist(ctx context.Context, name string) error {
	if !variableName.MatchString(name) {
		return fmt.Errorf("%q is not the name of a setting", name)
	}
	return s.exec(ctx, "RESET PERSIST "+name, "RESET PERSIST IF EXISTS "+name)
}

func (s *Server) assign(ctx context.Context, scope string, values map[string]string) error {
	d, err := s.Dialect(ctx)
	if err != nil {
		return err
	}
	if d.RDS {
		return &ErrManaged{"changing a global setting", "change it in the DB parameter group of the instance"}
	}
	names := make([]string, 0, len(values))
	for n := range values {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if !variableName.MatchString(n) {
			return fmt.Errorf("%q is not the name of a setting", n)
		}
		if err := s.exec(ctx, "SET "+scope+" "+n, "SET "+scope+" "+n+" = "+literal(values[n])); err != nil {
			return err
		}
	}
	return nil
}

var bareNumber = regexp.MustCompile(`^-?[0-9]{1,18}$`)

// literal writes a value for SET: numbers bare, for the server refuses them in
// quotes, everything else quoted.
func literal(v string) string {
	if bareNumber.MatchString(v) {
		return v
	}
	return quote(v)
}

// quote makes a string literal that is right in every sql_mode: the session's
// mode may have NO_BACKSLASH_ESCAPES.
func quote(v string) string {
	if strings.ContainsAny(v, "\\\x00\n\r\x1a") {
		return fmt.Sprintf("x'%x'", v)
	}
	return "'" + strings.ReplaceAll(v, "'", "''") + "'"
}

// SetReadOnly makes the server refuse writes, also of privileged accounts.
func (s *Server) SetReadOnly(ctx context.Context) error {
	return s.SetGlobal(ctx, map[string]string{"super_read_only": "ON"})
}

// SetWritable lets the server accept writes. Only read_only=OFF clears both
// switches; super_read_only=OFF would leave read_only ON.
func (s *Server) SetWritable(ctx context.Context) error {
	return s.SetGlobal(ctx, map[string]string{"read_only": "OFF"})
}

// InstallPlugins loads what a member needs, if it is not loaded: group_replication
// and clone. The server remembers it. Not needed, and not possible, on RDS.
func (s *Server) InstallPlugins(ctx context.Context) error {
	for _, p := range []struct{ name, lib string }{{"group_replication", "group_replication.so"}, {"clone", "mysql_clone.so"}} {
		var n int
		if err := s.read(ctx, "look for plugin "+p.name,
			"SELECT COUNT(*) FROM information_schema.plugins WHERE PLUGIN_NAME = ? AND PLUGIN_STATUS = 'ACTIVE'", []any{p.name}, &n); err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if err := s.writing(ctx, func() error {
			return s.exec(ctx, "install plugin "+p.name, "INSTALL PLUGIN "+p.name+" SONAME "+quote(p.lib))
		}); err != nil {
			return err
		}
	}
	return nil
}

// writing runs do with the read-only switches off, for statements that write
// system tables of this server alone. Clients could write in that moment, so
// it is only for servers that take no clients yet.
func (s *Server) writing(ctx context.Context, do func() error) error {
	var readOnly, super bool
	if err := s.read(ctx, "read super_read_only", "SELECT @@read_only, @@super_read_only", nil, &readOnly, &super); err != nil {
		return err
	}
	if !readOnly && !super {
		return do()
	}
	if err := s.exec(ctx, "open it for a local change", "SET GLOBAL super_read_only = OFF"); err != nil {
		return err
	}
	err := do()
	if !super {
		return err
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), CallLimit)
	defer cancel()
	// A server that went away meanwhile, as one does after a clone, comes back
	// read-only: its configuration says so.
	if e := s.exec(back, "close it again", "SET GLOBAL super_read_only = ON"); err == nil && !broken(e) {
		err = e
	}
	return err
}
