package playground

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/proxy"
)

// Endpoints says where everything in a playground is. It is written to
// endpoints.json when all is ready, and again when a server gets another
// process. Only its owner can read the file: it holds passwords.
type Endpoints struct {
	Cluster  string   `json:"cluster"`
	API      string   `json:"api"` // URL
	CA       string   `json:"ca"`  // file: the authority of the API and of the members
	Token    string   `json:"token"`
	User     string   `json:"user"`
	Password string   `json:"password"`
	Database string   `json:"database"`
	Config   string   `json:"config"` // perdure.yaml of the node
	Proxy    Proxy    `json:"proxy"`
	Members  []Member `json:"members"`
}

// Proxy has the addresses of the proxy's listeners.
type Proxy struct {
	RW    string `json:"rw"`    // reads and writes
	RO    string `json:"ro"`    // reads only
	Split string `json:"split"` // told apart by the proxy
}

// Member is one server of a playground.
type Member struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Socket  string `json:"socket"`
	PID     int    `json:"pid"` // 0 while it is down
}

func (p *play) endpoints(n *node.Node, url, token string) Endpoints {
	e := Endpoints{
		Cluster: "playground", API: url, CA: filepath.Join(p.Dir, "node", node.CAFile), Token: token,
		User: appUser, Password: p.secrets.app, Database: database, Config: filepath.Join(p.Dir, "perdure.yaml"),
	}
	if px := n.Proxy(); px != nil {
		e.Proxy = Proxy{px.Addr(proxy.ReadWrite).String(), px.Addr(proxy.ReadOnly).String(), px.Addr(proxy.Split).String()}
	}
	for _, s := range p.servers {
		e.Members = append(e.Members, Member{s.Name(), s.Address(), s.Socket(), s.PID()})
	}
	return e
}

func (e Endpoints) samePIDs(o Endpoints) bool { return slices.Equal(e.Members, o.Members) }

// headerFile holds the headers of a call to the API, for curl -H @FILE.
const headerFile = "curl.headers"

// writeHeaders makes headerFile. Only its owner can read it.
func (e Endpoints) writeHeaders(dir string) error {
	return os.WriteFile(filepath.Join(dir, headerFile), []byte("Authorization: Bearer "+e.Token+"\nContent-Type: application/json\n"), 0o600)
}

// write replaces DIR/endpoints.json in one step.
func (e Endpoints) write(dir string) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "endpoints.json")
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
