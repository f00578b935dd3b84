package node_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysqltest"
)

// Whatever stands in the file, nothing happens to servers before all of it is
// known to be right.
func TestBadInputChangesNothing(t *testing.T) {
	t.Parallel()
	servers := mysqltest.Start(t, 3)
	s := newSite(t, servers)
	s.spec["gone"] = api.Member{Name: "gone", Address: closedPort(t), GroupAddress: closedPort(t)}
	s.spec["maria"] = api.Member{Name: "maria", Address: mariaDB(t), GroupAddress: closedPort(t)}
	s.spec["twin"] = api.Member{Name: "twin", Address: strings.Replace(servers[0].Address(), "127.0.0.1", "localhost", 1), GroupAddress: closedPort(t)}
	before := untouched(t, servers[:2])
	n := s.serve(t, "node", "m1", "m2")
	for _, c := range []struct {
		name    string
		members []string
		say     []string
	}{
		{"an address where nobody listens", []string{"m1", "gone"}, []string{"gone", "nothing listens"}},
		{"MariaDB behind the address", []string{"maria", "m1"}, []string{"maria", "MariaDB", "not MySQL"}},
		{"one server under two names", []string{"m1", "twin"}, []string{"m1 and twin", "same server_uuid"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := n.Apply(t.Context(), s.wish(c.members...))
			refused(t, err, append(c.say, "Nothing was changed")...)
		})
	}
	t.Run("a copied data directory", func(t *testing.T) {
		m2 := s.servers["m2"]
		if err := m2.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		auto := filepath.Join(m2.Dir(), "data", "auto.cnf")
		was, err := os.ReadFile(auto)
		if err != nil {
			t.Fatal(err)
		}
		copied, err := os.ReadFile(filepath.Join(servers[0].Dir(), "data", "auto.cnf"))
		if err != nil {
			t.Fatal(err)
		}
		replace(t, auto, copied)
		if err := m2.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = n.Apply(t.Context(), s.wish("m1", "m2"))
		refused(t, err, "m1 and m2", "same server_uuid", "auto.cnf")
		if err := m2.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		replace(t, auto, was)
		if err := m2.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a member of another group", func(t *testing.T) {
		s.byHand(t, "5ca1ab1e-0000-4000-8000-000000000002", "m3")
		_, err := n.Apply(t.Context(), s.wish("m1", "m3"))
		refused(t, err, "5ca1ab1e-0000-4000-8000-000000000002", "m3", "m1 is OFFLINE", "Nothing was changed")
	})
	n.stop()
	t.Run("a wrong password", func(t *testing.T) {
		path := s.file(t, "wrong", "m1", "m2")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		secret := filepath.Join(s.dir, "wrong.password")
		if err := os.WriteFile(secret, []byte("not-this-one"), 0o600); err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), filepath.Join(s.dir, "mysql.password"), secret)
		w := s.serveFile(t, "wrong", text)
		_, err = w.Apply(t.Context(), s.wish("m1", "m2"))
		said := refused(t, err, "m1", "does not let us in", "Nothing was changed")
		if strings.Contains(said, "not-this-one") {
			t.Error("the password is in the message")
		}
		if log := tail(filepath.Join(s.dir, "wrong.log"), 10_000); strings.Contains(log, "not-this-one") {
			t.Error("the password is in the log")
		}
		w.stop()
	})
	for name, was := range before {
		if now := untouched(t, servers[:2])[name]; now != was {
			t.Errorf("%s was changed: %s, now %s", name, was, now)
		}
	}

	// The same once there is a cluster.
	n = s.serve(t, "node2", "m1")
	o, err := n.Apply(t.Context(), s.wish("m1"))
	n.done(t, o, err)
	for _, c := range []struct {
		name   string
		member string
		say    []string
	}{
		{"add an address where nobody listens", "gone", []string{"gone cannot be added", "nothing listens"}},
		{"add MariaDB", "maria", []string{"maria cannot be added", "MariaDB"}},
		{"add the same server again", "twin", []string{"same server_uuid"}},
		{"add a member of another group", "m3", []string{"m3", "5ca1ab1e-0000-4000-8000-000000000002", "not this cluster's"}},
		{"add a member that is one", "m1", []string{"m1 is already a member"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := n.AddMember(t.Context(), api.AddMember{Member: s.spec[c.member]})
			refused(t, err, append(c.say, "Nothing was changed")...)
		})
	}
}

// untouched is what a change would change on servers.
func untouched(t *testing.T, servers []*mysqltest.Member) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, m := range servers {
		out[m.Name()] = one(t, m.Root(t), `select concat_ws(' ', @@server_id, @@super_read_only, coalesce(@@group_replication_group_name, ''), @@gtid_executed,
			(select count(*) from performance_schema.persisted_variables), (select count(*) from mysql.user))`)
	}
	return out
}

func replace(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// mariaDB is a stranger that greets as MariaDB does.
func mariaDB(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			body := "\x0a5.5.5-11.4.2-MariaDB-ubu2404\x00" + // protocol 10, version
				"\x07\x00\x00\x00" + "abcdefgh\x00" + // connection, first half of the scramble
				"\xff\xf7" + "\x2d" + "\x02\x00" + "\xff\x81" + // capabilities, charset, status
				"\x15" + strings.Repeat("\x00", 10) + "ijklmnopqrst\x00" + "mysql_native_password\x00"
			_, _ = c.Write(append([]byte{byte(len(body)), 0, 0, 0}, body...))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}
