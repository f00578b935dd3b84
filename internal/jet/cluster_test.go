package jet_test

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/pki"
)

// trio is three linked servers in one process.
type trio struct {
	t    *testing.T
	cfgs [3]jet.Config
	srv  [3]*jet.Server
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.Open(filepath.Join(dir, "pki"))
	if err != nil {
		t.Fatal(err)
	}
	tr := &trio{t: t}
	var addrs []string
	for range 3 {
		port, err := mysqld.FreePort() // nobody's outgoing connection takes it while a server is down
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", port))
	}
	for i := range tr.cfgs {
		cert, key, err := ca.Issue(fmt.Sprint("n", i), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		tr.cfgs[i] = jet.Config{
			Name: fmt.Sprint("n", i), Dir: filepath.Join(dir, fmt.Sprint("n", i)),
			Cluster: &jet.Cluster{
				Name: "c", Listen: addrs[i], Peers: addrs, Secret: "between us",
				TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: ca.Pool(), ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert},
			},
		}
	}
	return tr
}

func (tr *trio) start(i ...int) {
	tr.t.Helper()
	for _, n := range i {
		tr.srv[n] = open(tr.t, tr.cfgs[n])
	}
}

func TestThreeNodesGoOnWithoutAnyOneAndComeBackFromNone(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.start(0, 1, 2)
	var wg sync.WaitGroup
	var logs [3]*jet.Log
	for i := range logs {
		wg.Go(func() { logs[i] = openLog(t, tr.srv[i], jet.LogConfig{Name: "w", Replicas: 3}) })
	}
	wg.Wait()
	if logs[0].Generation() != logs[1].Generation() || logs[1].Generation() != logs[2].Generation() {
		t.Fatal("three nodes made more than one stream")
	}
	n := 0
	add := adder(t, &n)
	for i := range logs {
		add(logs[i], 20)
	}
	for gone := range logs {
		tr.srv[gone].Close()
		add(logs[(gone+1)%3], 20)
		tr.start(gone)
		logs[gone] = openLog(t, tr.srv[gone], jet.LogConfig{Name: "w", Replicas: 3, Expect: logs[(gone+1)%3].Generation()})
		add(logs[gone], 5)
	}
	for _, s := range tr.srv {
		s.Close()
	}
	tr.start(0, 1, 2)
	for i := range logs {
		logs[i] = openLog(t, tr.srv[i], jet.LogConfig{Name: "w", Replicas: 3, Expect: logs[i].Generation()})
	}
	for i := range logs {
		readAll(t, logs[i], 1, uint64(n))
	}
	add(logs[1], 1)
}
