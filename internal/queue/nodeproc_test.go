package queue_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/envelope"
	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/queue"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv("PERDURE_QUEUE_NODE"); spec != "" {
		if err := nodeMain(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	mysqltest.Main(m)
}

// nodeSpec is what a queue node that runs as a process of its own needs to know.
type nodeSpec struct {
	Name, Dir, Keys, Listen string
	MySQL                   string   // host:port
	Members                 []string // of a group instead; the file "writer" in Dir says which one
	User, Password, Schema  string
	Replicas                int
	Cluster                 string // listen address of the link, empty when alone
	Peers                   []string
	CA, Cert, Key           string
	// Apply starts the applier at once; otherwise POST /apply?epoch=N does.
	Apply bool
}

// nodeReserve is the space that a node keeps free on its disk.
const nodeReserve = 64 << 20

// nodeMain is a queue node: log, service, applier, and a little HTTP in front.
func nodeMain(text string) error {
	var spec nodeSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	ctx := context.Background()
	keys, err := envelope.Load(spec.Keys)
	if err != nil {
		return err
	}
	cfg := jet.Config{Name: spec.Name, Dir: filepath.Join(spec.Dir, spec.Name), Reserve: nodeReserve}
	if spec.Cluster != "" {
		pair, err := tls.LoadX509KeyPair(spec.Cert, spec.Key)
		if err != nil {
			return err
		}
		pem, err := os.ReadFile(spec.CA)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		cfg.Cluster = &jet.Cluster{Name: "soak", Listen: spec.Cluster, Peers: spec.Peers, Secret: "soak", TLS: &tls.Config{
			Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		}}
	}
	srv, err := jet.Open(ctx, cfg, quiet())
	if err != nil {
		return err
	}
	lg, err := srv.OpenLog(ctx, jet.LogConfig{Name: "writes", Replicas: max(spec.Replicas, 1), MaxBytes: 16 << 30})
	if err != nil {
		return err
	}
	if spec.MySQL != "" {
		spec.Members = []string{spec.MySQL}
	}
	var targets []queue.Target
	for i, address := range spec.Members {
		db, err := queue.OpenTarget(mysql.Login{Address: address, User: spec.User, Password: spec.Password})
		if err != nil {
			return err
		}
		targets = append(targets, queue.Target{Member: fmt.Sprint("m", i), DB: db})
	}
	var route queue.Route = &direct{target: targets[0]}
	if len(targets) > 1 {
		route = &said{filepath.Join(spec.Dir, "writer"), targets}
	}
	ops, err := queue.NewOperations(testOperations(spec.Schema))
	if err != nil {
		return err
	}
	flights := 1
	if spec.Replicas > 1 {
		flights = 4
	}
	make1 := func() (*queue.Service, error) {
		return queue.New(queue.Config{
			Log: lg, Seal: keys, Operations: ops, Logger: quiet(), Flights: flights,
			Route: route, AcceptLimit: 15 * time.Second,
			Apply: queue.ApplierConfig{StatementLimit: 5 * time.Second, RetryFirst: 50 * time.Millisecond, RetryMost: time.Second},
		})
	}
	svc, err := make1()
	if err != nil {
		return err
	}
	go func() { _ = svc.Run(ctx) }()
	apply := func(s *queue.Service, epoch int64) {
		for {
			err := s.Applier.Run(ctx, epoch)
			fmt.Fprintln(os.Stderr, spec.Name, "applier ended:", err)
			if epoch != 0 || !errors.Is(err, queue.ErrFenced) {
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	if spec.Apply {
		go apply(svc, 0)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /w", func(w http.ResponseWriter, req *http.Request) {
		var writes []queue.Write
		if err := json.NewDecoder(req.Body).Decode(&writes); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		if _, err := svc.Submit(req.Context(), boss, writes); err != nil {
			p := (*queue.Problem)(nil)
			if errors.As(err, &p) {
				http.Error(w, p.Error(), p.Status)
				return
			}
			http.Error(w, err.Error(), 500)
			return
		}
		w.WriteHeader(202)
	})
	mux.HandleFunc("POST /apply", func(w http.ResponseWriter, req *http.Request) {
		n, _ := strconv.ParseInt(req.FormValue("epoch"), 10, 64)
		go apply(svc, n)
	})
	mux.HandleFunc("POST /duel", func(http.ResponseWriter, *http.Request) {
		if second, err := make1(); err == nil {
			go func() {
				short, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
				defer cancel()
				_ = second.Applier.Run(short, 0)
			}()
		}
	})
	mux.HandleFunc("POST /pause", func(_ http.ResponseWriter, req *http.Request) { _ = svc.Pause(req.Context(), boss) })
	mux.HandleFunc("POST /resume", func(_ http.ResponseWriter, req *http.Request) { _ = svc.Resume(req.Context(), boss) })
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, req *http.Request) {
		st, _ := svc.Status(req.Context())
		_ = json.NewEncoder(w).Encode(st)
	})
	ln, err := net.Listen("tcp", spec.Listen)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = http.Serve(ln, mux) })
	wg.Wait()
	return nil
}

// said is a route to the target whose number a file has.
type said struct {
	file    string
	targets []queue.Target
}

func (s *said) Writer(context.Context) (queue.Target, error) {
	text, err := os.ReadFile(s.file)
	if err != nil {
		return queue.Target{}, err
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 0 || n >= len(s.targets) {
		return queue.Target{}, errors.New("no member takes writes")
	}
	return s.targets[n], nil
}
