package control

import (
	"net/url"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// operated is an etcd as an operator would run it, with TLS on its client
// port.
func operated(t *testing.T, files TLS) (endpoint string) {
	t.Helper()
	client := url.URL{Scheme: "https", Host: freeAddress(t)}
	e := embed.NewConfig()
	e.Name = "theirs"
	e.Dir = t.TempDir()
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZap(t.Context(), logTo(t)))
	e.ListenPeerUrls = nil
	e.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: solitary}}
	e.InitialCluster = "theirs=http://" + solitary
	e.ListenClientUrls, e.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	e.ClientTLSInfo = transport.TLSInfo{
		CertFile: files.Cert, KeyFile: files.Key, TrustedCAFile: files.CA, ClientCertAuth: true,
	}
	e.EnableGRPCGateway = false
	s, err := embed.StartEtcd(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return client.Host
}

func TestAnExternalStoreIsAStore(t *testing.T) {
	t.Parallel()
	files := testTLS(t)
	c := open(t, Config{Endpoints: []string{operated(t, files)}, TLS: files})
	suite(t, c)
	s, err := c.Status(t.Context())
	if err != nil || !s.Quorum || s.Leader != "theirs" || len(s.Nodes) != 1 {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := c.AddPeer(t.Context(), Peer{"x", "127.0.0.1:1"}); err == nil {
		t.Error("a node was added to a store that is not ours")
	}
}

func TestAnExternalStoreThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	endpoint := freeAddress(t)
	cfg := Config{Endpoints: []string{endpoint}, OpenLimit: time.Second, CallLimit: 300 * time.Millisecond}
	began := time.Now()
	_, err := Open(t.Context(), cfg, logTo(t))
	if err == nil {
		t.Fatal("it was opened")
	}
	t.Log(err)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("that took %s", took)
	}
}
