package proxy

import (
	"context"
	"strings"
	"testing"
)

func TestClientsSignInOverTLSAndPlaintext(t *testing.T) {
	t.Parallel()
	for _, pooling := range []func(*Config){func(*Config) {}, transaction} {
		r := alone(t, pooling)
		for range 3 {
			for _, mode := range []Mode{ReadWrite, ReadOnly, Split} {
				if got := ask(t, r.conn(t, mode, inTLS), "SELECT CURRENT_USER()"); got != testUser+"@%" {
					t.Error(got)
				}
				if got := ask(t, r.conn(t, mode), "SELECT DATABASE()"); got != "test" {
					t.Error(got)
				}
			}
		}
		bad := r.dsn(ReadWrite)
		bad.Passwd = "wrong"
		if err := openDB(t, bad).PingContext(context.Background()); err == nil {
			t.Error("a wrong password was accepted")
		}
		bad.Passwd = ""
		if err := openDB(t, bad).PingContext(context.Background()); err == nil || !strings.HasPrefix(err.Error(), "Error 1045") {
			t.Error("without a password:", err)
		}
		bad = r.dsn(ReadWrite)
		bad.DBName = "nowhere"
		err := openDB(t, bad).PingContext(context.Background())
		if err == nil || err.Error() != "Error 1049 (42000): Unknown database 'nowhere'" {
			t.Error(err)
		}
		c := r.conn(t, ReadWrite)
		exec(t, c, "CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY AUTO_INCREMENT, v TEXT)", "INSERT INTO t (v) VALUES ('a')", "SET @x = 5")
		st, err := c.PrepareContext(context.Background(), "SELECT v, @x FROM t WHERE id = ?")
		if err != nil {
			t.Fatal(err)
		}
		var v, x string
		if err := st.QueryRow(1).Scan(&v, &x); err != nil || v != "a" || x != "5" {
			t.Error(v, x, err)
		}
	}
}
