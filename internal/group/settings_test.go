package group

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/topology"
)

func value(t *testing.T, s []setting, name string) int {
	t.Helper()
	i := slices.IndexFunc(s, func(x setting) bool { return x.name == name })
	if i < 0 {
		t.Fatalf("%s is not set", name)
	}
	n, err := strconv.Atoi(s[i].value)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Nine members in each of three sites: no two may ever hand out the same
// auto-increment value or run under the same server id, in either mode.
func TestNineMembersInThreeSitesNeverCollide(t *testing.T) {
	t.Parallel()
	for _, mode := range []topology.Mode{topology.MultiPrimary, topology.SinglePrimary} {
		offsets, ids := map[int]string{}, map[int]string{}
		for site := 1; site <= 3; site++ {
			c := Cluster{Name: "shop", Group: fmt.Sprintf("%d1111111-1111-1111-1111-111111111111", site)}
			c.Spec = withDefaults(api.Group{Mode: mode, Site: site})
			for i := range MaxMembers {
				c = c.add(api.Member{Name: fmt.Sprintf("m%d", i+1), Address: fmt.Sprintf("h%d:3306", i+1)})
			}
			for _, m := range c.Members {
				s, err := settings(&c, m)
				if err != nil {
					t.Fatal(err)
				}
				who := fmt.Sprintf("%s of site %d (%s)", m.Name, site, mode)
				step := value(t, s, "auto_increment_increment")
				if step < MaxMembers || step != value(t, s, "group_replication_auto_increment_increment") {
					t.Errorf("%s: step %d", who, step)
				}
				offset := value(t, s, "auto_increment_offset")
				if offset < 1 || offset > step {
					t.Errorf("%s: the server ignores offset %d with step %d", who, offset, step)
				}
				if other, taken := offsets[offset]; taken {
					t.Errorf("%s and %s have offset %d", who, other, offset)
				}
				offsets[offset] = who
				id := value(t, s, "server_id")
				if id <= 0 || id > 1<<31-1 {
					t.Errorf("%s: server id %d", who, id)
				}
				if other, taken := ids[id]; taken {
					t.Errorf("%s and %s have server id %d", who, other, id)
				}
				ids[id] = who
			}
		}
		if len(offsets) != 27 {
			t.Errorf("%d offsets for 27 members", len(offsets))
		}
	}
}

func TestASlotIsUsedAgainAfterItsMemberLeft(t *testing.T) {
	t.Parallel()
	c := made("m1", "m2", "m3").without("m2").add(api.Member{Name: "m4", Address: "m4:3306"})
	m, _ := c.Member("m4")
	if m.Slot != 2 {
		t.Errorf("m4 has slot %d", m.Slot)
	}
}

// The server refuses enforce_update_everywhere_checks=ON beside
// single_primary_mode=ON, so from either side the order must be: checks off,
// mode, checks on.
func TestSettingsComeInAnOrderTheServerAccepts(t *testing.T) {
	t.Parallel()
	const checks, single = "group_replication_enforce_update_everywhere_checks", "group_replication_single_primary_mode"
	for _, from := range []topology.Mode{topology.MultiPrimary, topology.SinglePrimary} {
		for _, to := range []topology.Mode{topology.MultiPrimary, topology.SinglePrimary} {
			have := map[string]string{checks: "ON", single: "OFF"}
			if from == topology.SinglePrimary {
				have = map[string]string{checks: "OFF", single: "ON"}
			}
			c := made("m1")
			c.Spec.Mode = to
			want, err := settings(&c, c.Members[0])
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range differing(want, have) {
				have[s.name] = s.value
				if have[checks] == "ON" && have[single] == "ON" {
					t.Errorf("from %s to %s: the server refuses %s", from, to, s)
				}
			}
			if left := differing(want, have); len(left) > 0 {
				t.Errorf("from %s to %s: still differing: %v", from, to, left)
			}
		}
	}
}

func TestDifferingKnowsSynonymsAndOlderServers(t *testing.T) {
	t.Parallel()
	want := []setting{{"a", "ON", true}, {"b", "QUOTA", true}, {"c", "7", true}, {"unknown_here", "1", true}}
	if got := differing(want, map[string]string{"a": "1", "b": "quota", "c": "8"}); len(got) != 1 || got[0].name != "c" {
		t.Errorf("differing: %v", got)
	}
}

func TestTheUsualGroupPortNeedsRoom(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{"h:3306": "h:33061", "[::1]:3306": "[::1]:33061", "h:6553": "h:65531"} {
		if got, err := groupAddress(api.Member{Address: address}); err != nil || got != want {
			t.Errorf("%s: %s, %v", address, got, err)
		}
	}
	if got, err := groupAddress(api.Member{Name: "m1", Address: "h:6554"}); err == nil {
		t.Errorf("port 6554 gives %s", got)
	}
}
