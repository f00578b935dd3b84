package mysqld

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
)

// Account is a MySQL account that exists from a server's first start.
type Account struct {
	User       string
	Host       string // "%" when empty
	Password   string // required; see NewPassword
	Grants     []Grant
	RequireTLS bool
}

// Grant is one GRANT statement without its grantee.
type Grant struct {
	Privileges string // "SELECT, RELOAD"
	On         string // "*.*" when empty
	MayGrant   bool   // WITH GRANT OPTION
}

// NewPassword makes a password of 26 letters and digits, 130 bits.
func NewPassword() string { return rand.Text() }

// statements gives the SQL that creates the account, one line each: an init
// file is read line by line.
func (a Account) statements() ([]string, error) {
	if a.User == "" || a.Password == "" {
		return nil, fmt.Errorf("account %q has no name or no password", a.User)
	}
	host := a.Host
	if host == "" {
		host = "%"
	}
	who := quote(a.User) + "@" + quote(host)
	create := "CREATE USER " + who + " IDENTIFIED BY " + quote(a.Password)
	if a.RequireTLS {
		create += " REQUIRE SSL"
	}
	lines := []string{create}
	for _, g := range a.Grants {
		on := g.On
		if on == "" {
			on = "*.*"
		}
		line := "GRANT " + g.Privileges + " ON " + on + " TO " + who
		if g.MayGrant {
			line += " WITH GRANT OPTION"
		}
		lines = append(lines, line)
	}
	for _, line := range lines {
		if strings.ContainsAny(line, "\n\r\x00") {
			return nil, errors.New("account " + a.User + ": a line break cannot be part of an account or a grant")
		}
	}
	return lines, nil
}

// quote makes a string literal for the default SQL mode, where a backslash
// escapes.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}
